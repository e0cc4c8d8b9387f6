//! `bosco approve`.

use std::time::Duration;

use bosco_release::FleetFile;
use bosco_wire::api::{Approve, JoinLine, join_code};

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::{Hub, vouched};
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, code: Option<&str>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let hub = Hub::of(&cli.place).await?;
    match code {
        Some(code) => {
            let approve = Approve { code: code.trim().to_lowercase() };
            let approved = async {
                let mut connection = hub.open().await?;
                let line: JoinLine = connection.post("/v1/joins/approve", &approve, Duration::ZERO).await?;
                // The code says which key the machine has, whatever the hub says.
                if !is_code_of(&approve.code, &line, hub.rules()) {
                    let message = format!(
                        "the hub says that it has let in {} with {}, which is not the key that the code is of",
                        line.host,
                        line.key.fingerprint()
                    );
                    return Err(Error::new(Exit::NotDeployed, message)
                        .hint(format!("`bosco forget {}`, and look after the hub", line.host)));
                }
                vouched::let_in(hub.rules(), &line.host, std::slice::from_ref(&line.key))?;
                Ok(line)
            };
            let line: JoinLine = stoppable(&show, approved).await?;
            if cli.json {
                show::json(&line);
            } else {
                show::text(&format!("{}: let in with {}", line.host, line.key.fingerprint()));
            }
        }
        None => {
            let asked = async { hub.open().await?.get("/v1/joins").await };
            let lines: Vec<JoinLine> = stoppable(&show, asked).await?;
            if cli.json {
                show::json(&lines);
            } else {
                list(&lines);
            }
        }
    }
    Ok(Exit::Done)
}

fn is_code_of(code: &str, line: &JoinLine, fleet: &FleetFile) -> bool {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let hub = fleet.hub.iter().flat_map(|hub| &hub.keys);
    hub.map(|hub| join_code(&line.host, &line.key, hub)).any(|own| plain(&own) == plain(code))
}

fn list(lines: &[JoinLine]) {
    if lines.is_empty() {
        show::text("nobody asks to be let in");
        return;
    }
    let mut table = Table::new(["HOST", "CODE", "KEY", "FROM", "SINCE"]);
    let now = show::now();
    for line in lines {
        table.row([
            line.host.to_string(),
            line.code.clone(),
            line.key.fingerprint(),
            line.from.clone(),
            show::ago(line.since, now),
        ]);
    }
    table.print();
    show::text("compare all of a code with what that machine shows, then: bosco approve CODE");
}

#[cfg(test)]
mod tests {
    use bosco_model::HostName;
    use bosco_release::Key;

    use super::*;

    #[test]
    fn a_code_is_of_one_key_and_a_hub_that_lets_in_another_one_is_found_out() {
        let one = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let two = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2ZAkfj3ewrgQqVYgTMkYbVnMfmGpTI1DcmmZq9HyNv";
        let [one, two] = [one, two].map(|text| Key::parse(text).unwrap());
        let fleet =
            format!("fleet = \"home\"\n[hub]\naddress = \"hub:22\"\nkeys = [\"{two}\"]\nsigns = true\n");
        let fleet = FleetFile::parse(&fleet).unwrap();
        let web = HostName::parse("web").unwrap();
        let code = join_code(&web, &one, &two);
        let line = |key: &Key| JoinLine {
            host: web.clone(),
            key: key.clone(),
            code: code.clone(),
            since: 0,
            from: String::new(),
        };
        assert!(is_code_of(&code.replace('-', " "), &line(&one), &fleet));
        assert!(!is_code_of(&code, &line(&two), &fleet));
        assert!(!is_code_of("", &line(&one), &fleet));
    }
}
