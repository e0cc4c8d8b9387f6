//! `bosco eval`.

use std::io::Read;
use std::path::Path;

use bosco_nix::{Expression, Nix};

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::fleet::{listen, source};
use crate::show;

/// The most that an expression may have, in bytes: it goes to Nix as a part of an argument, and the system lets none of
/// them be longer than 128 KiB.
const MAX_EXPRESSION: u64 = 32 * 1024;

pub(crate) async fn run(cli: &Cli, expression: Option<&str>) -> Result<Exit, Error> {
    // Before anything listens to signals: whoever types it must be able to stop.
    let expression = match expression.unwrap_or_default() {
        "-" => Expression::Text(read(std::io::stdin())?),
        // As with Colmena. An expression may be the name of a file only where there is such a file.
        file if Path::new(file).is_file() => Expression::File(
            Path::new(file)
                .canonicalize()
                .map_err(|error| Error::new(Exit::Usage, format!("{file} can't be read: {error}")))?,
        ),
        expression => Expression::Text(expression.to_owned()),
    };
    let show = show::for_answer(cli);
    let source = source(&cli.place)?;
    if matches!(&expression, Expression::Text(text) if text.len() as u64 > MAX_EXPRESSION) {
        return Err(Error::new(Exit::Usage, format!("the expression is longer than {MAX_EXPRESSION} bytes"))
            .hint("put it into a file, and name that"));
    }
    let work = async {
        let nix = Nix::find(cli.settings()).await?;
        let answer = nix.eval(&source, &expression, cli.json, &mut listen(&watch(&show), None)).await;
        answer.map_err(Error::from)
    };
    show::text(&stoppable(&show, work).await?);
    Ok(Exit::Done)
}

fn read(input: impl Read) -> Result<String, Error> {
    let mut text = String::new();
    let read = input.take(MAX_EXPRESSION + 1).read_to_string(&mut text);
    read.map_err(|error| Error::new(Exit::Usage, format!("the standard input can't be read: {error}")))?;
    Ok(text)
}
