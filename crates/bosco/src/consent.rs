//! The question before a whole fleet is changed: asked once, of who sits at a terminal, with what is going to change.

use std::sync::{Mutex, PoisonError};

use bosco_nix::Nix;
use tokio::sync::OnceCell;

use crate::differences::{Pair, compare};
use crate::event::{Event, Sink, ask};

/// Whether hosts may be changed. They say first what is to become of them, and wait then.
#[derive(Default)]
pub(crate) struct Consent {
    pairs: Mutex<Vec<Pair>>,
    given: OnceCell<bool>,
}

impl Consent {
    /// A host says what is to become of it.
    pub(crate) fn tell(&self, pair: Pair) {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
    }

    /// Whether it may go on. Who comes first asks for all that have told by then; who comes later is not asked about.
    pub(crate) async fn is_given(&self, nix: &Nix, events: &Sink) -> bool {
        *self.given.get_or_init(|| self.ask(nix, events)).await
    }

    async fn ask(&self, nix: &Nix, events: &Sink) -> bool {
        let pairs = std::mem::take(&mut *self.pairs.lock().unwrap_or_else(PoisonError::into_inner));
        // It is shown to be read, and decides nothing: where it can't be had, the question is asked all the same.
        let compared = compare(nix, &pairs).await.unwrap_or_default();
        let event = |answer| Event::Question { compared, answer };
        ask(events, event).await.unwrap_or(false)
    }
}

/// What an answer means: nothing but Enter is a yes, and an end of the input is none.
pub(crate) fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") && answer.ends_with('\n')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn enter_is_a_yes_and_the_end_of_the_input_is_none() {
        for (answer, yes) in
            [("\n", true), ("y\n", true), ("Yes\n", true), ("", false), ("n\n", false), ("what\n", false)]
        {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn all_hosts_go_by_the_one_answer() {
        // Without a host nothing is compared.
        let Ok(nix) = Nix::find(bosco_nix::Settings::default()).await else { return };
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let events: Sink = Arc::new(move |event| {
            if let Event::Question { answer, .. } = event {
                count.fetch_add(1, Ordering::Relaxed);
                answer.give(true);
            }
        });
        let consent = Consent::default();
        let answers = tokio::join!(consent.is_given(&nix, &events), consent.is_given(&nix, &events));
        assert_eq!((answers, asked.load(Ordering::Relaxed)), ((true, true), 1));
    }
}
