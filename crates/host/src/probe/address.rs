//! Where a health check connects to: addresses as people write them, and how a connection there is had. The helper is
//! linked statically and has no name service of its own, so names are the business of the host's `getent`.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::run::{program, run};

/// The longest name of a host, by the rules of DNS.
const LONGEST_NAME: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Authority {
    /// Reads `HOST:PORT`, or `HOST` alone where there is a port to fall back to.
    pub(super) fn parse(text: &str, default: Option<u16>) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is no HOST:PORT: {why}");
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
                if address.parse::<Ipv6Addr>().is_err() {
                    return Err(wrong("what is in brackets is no IPv6 address"));
                }
                (address, rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                if rest.matches(':').count() > 1 {
                    return Err(wrong("an IPv6 address is written in brackets"));
                }
                if !is_name(host) {
                    return Err(wrong("it has no host that could be looked for"));
                }
                (host, rest)
            }
        };
        let port = match (rest.strip_prefix(':'), default) {
            (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("no such port"))?
            }
            (None, Some(port)) if rest.is_empty() => port,
            _ => return Err(wrong("it has no port")),
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// The addresses to connect to, best first.
    fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let addresses = if let Ok(address) = self.host.parse::<IpAddr>() {
            vec![address]
        } else if self.host.eq_ignore_ascii_case("localhost") {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            let ran = run(program("getent").args(["ahosts", &self.host]), limit)?;
            parse_ahosts(&ran.said)
        };
        if addresses.is_empty() {
            return Err(format!("the name {} has no address", self.host));
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, self.port)).collect())
    }

    /// Connects to the first of its addresses that answers.
    pub(super) fn connect(&self, limit: Duration) -> Result<TcpStream, String> {
        let deadline = Instant::now() + limit;
        let addresses = self.resolve(limit)?;
        let mut first = None;
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // One that swallows everything leaves time for the others.
            let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = left / others;
            if share.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    first.get_or_insert_with(|| match error.kind() {
                        ErrorKind::ConnectionRefused => format!("connection refused by {address}"),
                        ErrorKind::TimedOut | ErrorKind::WouldBlock => no_answer(limit),
                        _ => format!("no connection to {address}: {error}"),
                    });
                }
            }
        }
        Err(first.unwrap_or_else(|| no_answer(limit)))
    }
}

/// The words for a try that ran out of time.
pub(super) fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_millis().div_ceil(1000).max(1))
}

fn is_name(host: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=LONGEST_NAME).contains(&host.len())
        && host.bytes().all(fits)
        // It would be read as an option.
        && !host.starts_with(['-', '.'])
}

/// The addresses in what `getent ahosts` says: one a line, several times, by kind of socket.
fn parse_ahosts(said: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in said.lines() {
        if let Some(Ok(address)) = line.split_whitespace().next().map(str::parse)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_and_a_port_are_read_as_people_write_them() {
        let read =
            |text| Authority::parse(text, None).map(|read| (read.host.clone(), read.port, read.to_string()));
        for (text, host, port) in [
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:22", "::1", 22),
            ("db_1.example:5432", "db_1.example", 5432),
        ] {
            assert_eq!(read(text), Ok((host.to_owned(), port, text.to_owned())));
        }
        assert_eq!(Authority::parse("a", Some(80)).unwrap().port, 80);
        assert_eq!(Authority::parse("[::1]", Some(80)).unwrap().to_string(), "[::1]:80");
        for text in [
            "", "a", ":80", "a:", "a:0", "a:65536", "a:+1", "a: 1", "::1:80", "[::1]", "[::1", "[a]:1",
            "[::1]x:1", "-a:1", "a b:1", "a/b:1", "u@a:1", "a:1:2", "ä:1",
        ] {
            assert!(Authority::parse(text, None).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_looked_up_without_a_library() {
        let said =
            "192.0.2.7       STREAM db.example\n192.0.2.7       DGRAM  \n2001:db8::7     STREAM \nx y\n\n";
        let addresses: Vec<IpAddr> = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().unwrap()).into();
        assert_eq!(parse_ahosts(said), addresses);
        let of = |host: &str| {
            let authority = Authority { host: host.into(), port: 1 };
            authority
                .resolve(Duration::from_secs(20))
                .map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of("localhost").unwrap(), ["127.0.0.1:1", "[::1]:1"]);
        assert_eq!(of("::1").unwrap(), ["[::1]:1"]);
        assert!(of("no-such-host.invalid").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_an_address_panic(text in "\\PC{0,40}|\\[?[0-9a-f:.]{0,20}\\]?:?[0-9]{0,7}") {
            if let Ok(read) = Authority::parse(&text, Some(80)) {
                prop_assert_eq!(Authority::parse(&read.to_string(), None), Ok(read));
            }
        }
    }
}
