//! A health check by HTTP/1.1: one GET, of which only the status counts.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::address::{Authority, no_answer};

/// The most that is read of an answer, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// The longest URL, in bytes.
const LONGEST_URL: usize = 4096;

/// Where an answer is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    authority: Authority,
    /// Path and query.
    target: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(200).collect();
        let wrong = |why: &str| format!("`{shown}` can't be asked: {why}");
        if text.len() > LONGEST_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("a URL is of at most 4096 plain characters, others are written as %20"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it does not begin with http://"))?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong("it does not begin with http://"));
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("it must not hold a user's name"));
        }
        let authority = Authority::parse(authority, Some(80)).map_err(|why| wrong(&why))?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { authority, target: format!("{slash}{target}") })
    }

    fn request(&self) -> String {
        let whole = self.authority.to_string();
        // The port is left out where it is the usual one, as browsers do: some servers compare the whole text.
        let host = if self.authority.port == 80 { whole.trim_end_matches(":80") } else { &whole };
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bosco\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.target
        )
    }
}

/// Asks a URL for its status, which has to be one of success or redirection.
pub(super) fn get(url: &str, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let url = Url::parse(url)?;
    let mut stream = url.authority.connect(limit)?;
    let lost = |error: &std::io::Error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => no_answer(limit),
        _ => format!("the connection to {} broke: {error}", url.authority),
    };
    wait_until(&stream, deadline)
        .and_then(|()| stream.write_all(url.request().as_bytes()))
        .map_err(|error| lost(&error))?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = wait_until(&stream, deadline)
            .and_then(|()| stream.read(&mut buffer))
            .map_err(|error| lost(&error))?;
        if read == 0 {
            return Err(format!("{} closed the connection without an answer", url.authority));
        }
        head.extend_from_slice(&buffer[..read]);
        match status(&mut head)? {
            Some(200..=399) => return Ok(()),
            Some(status) => return Err(format!("answered with status {status}")),
            None if head.len() >= LONGEST_HEAD => {
                return Err("answered with a head of more than 16 KiB".into());
            }
            None => {}
        }
    }
}

/// Gives the next step on a connection what is left of the time.
fn wait_until(stream: &TcpStream, deadline: Instant) -> std::io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// The status of an answer, once its head is there. Provisional answers are dropped from it.
fn status(head: &mut Vec<u8>) -> Result<Option<u16>, String> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(head);
        let code = response.code;
        match (parsed, code) {
            (Ok(httparse::Status::Complete(length)), Some(100 | 102..=199)) => {
                head.drain(..length);
            }
            (Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders), Some(code)) => {
                return Ok(Some(code));
            }
            (Ok(_), _) => return Ok(None),
            (Err(error), _) => return Err(format!("answered with something that is not HTTP: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_read_strictly() {
        let request = |text| Url::parse(text).unwrap().request();
        let lines = |text| request(text).lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines("http://a.example"), ["GET / HTTP/1.1", "Host: a.example"]);
        assert_eq!(lines("HTTP://a.example:80/x?y=%20#z"), ["GET /x?y=%20 HTTP/1.1", "Host: a.example"]);
        assert_eq!(lines("http://[::1]:8080?q"), ["GET /?q HTTP/1.1", "Host: [::1]:8080"]);
        assert_eq!(lines("http://[::80]/"), ["GET / HTTP/1.1", "Host: [::80]"]);
        for text in [
            "",
            "a.example",
            "https://a.example",
            "http://",
            "http:///x",
            "http://u@a.example/",
            "http://a.example/ x",
            "http://a.example/\r\nX: y",
            "http://a.example:/",
            "http://::1/",
            "http://ä.example/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
        let error = Url::parse("https://a.example").unwrap_err();
        assert_eq!(error, "`https://a.example` can't be asked: it does not begin with http://");
    }

    /// What a check says to a server that answers so.
    fn answered(answer: &'static [u8], hold: bool) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            for part in answer.chunks(7) {
                if stream.write_all(part).is_err() {
                    break;
                }
            }
            if hold {
                let _ = stream.read(&mut byte);
            }
            String::from_utf8(request).unwrap()
        });
        let result = get(&url, Duration::from_secs(1));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
        result
    }

    #[test]
    fn success_and_redirections_are_healthy_and_nothing_else_is() {
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true), Ok(()));
        assert_eq!(answered(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", false), Ok(()));
        assert_eq!(answered(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false), Ok(()));
        let words = |answer, hold| answered(answer, hold).unwrap_err();
        assert_eq!(words(b"HTTP/1.1 503 Down\r\n\r\n", false), "answered with status 503");
        assert_eq!(words(b"HTTP/1.1 404 Not Found\r\n\r\n", true), "answered with status 404");
        assert!(
            words(b"SSH-2.0-OpenSSH_9.9\r\n", false).starts_with("answered with something that is not HTTP")
        );
        assert!(words(b"", false).ends_with("closed the connection without an answer"));
        assert!(words(b"HTTP/1.1 200 OK\r\n", false).ends_with("closed the connection without an answer"));
        assert_eq!(words(b"HTTP/1.1 200 OK\r\n", true), "no answer within 1 s");
        let endless = Vec::leak([b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 40_000]].concat());
        assert_eq!(words(endless, false), "answered with a head of more than 16 KiB");
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_a_url_panic_or_break_out_of_its_line(text in "(http://)?\\PC{0,60}|http://[a-z:\\[\\]/?#@.0-9]{0,30}") {
            if let Ok(url) = Url::parse(&text) {
                let request = url.request();
                prop_assert_eq!(request.lines().count(), 6);
                prop_assert_eq!(request.lines().next().unwrap().split(' ').count(), 3);
            }
        }

        #[test]
        fn no_answer_makes_reading_it_panic(mut head in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = status(&mut head);
        }
    }
}
