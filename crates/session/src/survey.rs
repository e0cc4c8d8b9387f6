//! What a host says of itself, asked by the host itself: the same program that an operator's session begins with.

use bosco_model::{Observed, Profiles, StorePath};

use crate::answer::{self, Line, Unreadable};
use crate::session::program;
use crate::{Others, Wanted};

/// The program: for a shell that runs as root and has nothing on its input. `toplevel` and `profiles` are what the host
/// should run.
#[must_use]
pub fn survey_program(toplevel: Option<&StorePath>, profiles: &Profiles) -> String {
    program(Wanted { toplevel, others: Others::Wanted(profiles), ..Wanted::default() })
}

/// Reads what it has said.
///
/// # Errors
/// [`Unreadable`], also where it does not come to an end.
pub fn read_survey(text: &str) -> Result<Observed, Unreadable> {
    let mut observed = Observed::default();
    for text in text.lines() {
        match answer::line(text)? {
            Line::Done(0) => return Ok(observed),
            Line::Done(code) => {
                return Err(Unreadable(format!("the survey ended with {code}; is it root's?")));
            }
            Line::Fact(key, value) => answer::observe(&mut observed, key, value),
            Line::Log(_) => {}
        }
    }
    Err(Unreadable("the survey has no end".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_can_be_asked_by_itself() {
        let said = "bosco 1\nuser 0\nsystem x86_64-linux\nnix yes\n\ndone 0\nwhatever";
        let observed = read_survey(said).unwrap();
        assert_eq!(observed.system.as_deref(), Some("x86_64-linux"));
        assert!(observed.nix);
        assert!(read_survey("bosco 1\nuser 1\n\ndone 1").is_err(), "not root");
        assert!(read_survey("bosco 1\nuser 0\n").is_err(), "cut short");
    }
}
