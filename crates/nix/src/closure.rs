//! A toplevel with all that it needs, and getting it out of the store here.
//!
//! One process, `nix-store --serve`, says what a closure is and hands out its contents, whatever Nix or Lix it is of and
//! wherever the store is. What goes to a host is the same protocol in the other direction: unlike the stream of
//! `nix-store --export`, it can be taken without holding a path in memory, and brings the signatures along.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::process::Stdio;

use bosco_model::StorePath;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::command::{finish, read_log, spawn};
use crate::serve::{self, Message, Verb};
use crate::{Error, Nix};

/// What is asked, for errors.
const PROGRAM: &str = "nix-store --serve";
/// How much a pipe from it, or to it, holds, in bytes.
#[cfg(target_os = "linux")]
pub(crate) const PIPE: usize = 1024 * 1024;
/// What every archive begins with: `nix-archive-1`, as a text of the protocol.
const ARCHIVE: [u8; 24] = *b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0";

/// What the store knows of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// How many bytes its archive (NAR) has.
    pub size: u64,
    /// Who vouches for its contents. A path that came from a cache has the cache's signature.
    pub signatures: Vec<String>,
    /// What it refers to, itself perhaps included.
    pub references: Vec<StorePath>,
    /// How a content-addressed path came by its name; empty for others.
    pub address: String,
    deriver: String,
    hash: String,
}

/// The store here, open to be asked.
#[derive(Debug)]
pub struct Store {
    stdin: ChildStdin,
    server: Server,
}

/// The process that answers.
#[derive(Debug)]
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: JoinHandle<Result<String, Error>>,
}

/// Bare archives out of the store here, one after the other, each as long as the store's database says. Whoever takes them
/// compares their hashes: an archive that is too short takes from the next one what it lacks.
#[derive(Debug)]
pub struct Archives {
    server: Server,
    paths: VecDeque<PathInfo>,
    /// The path that is being read, and how many bytes of it are still to come.
    present: Option<(StorePath, u64)>,
}

/// Paths on their way out of the store here: as the input of a `nix-store --serve --write`, or a bare archive.
#[derive(Debug)]
pub struct Delivery {
    server: Server,
    /// Whether there is nothing around the archive.
    bare: bool,
    /// How many bytes the receiver answers where it has taken all of it.
    answer: u64,
    paths: VecDeque<PathInfo>,
    /// What is to be handed out before more is read.
    head: VecDeque<u8>,
    /// The path that is being read, and how many bytes of it are still to come.
    present: Option<(StorePath, u64)>,
}

impl Nix {
    /// Opens the store here.
    ///
    /// # Errors
    /// Where `nix-store` can't be started.
    pub fn store_here(&self) -> Result<Store, Error> {
        let mut child = spawn(self.store(["--serve"]), Stdio::piped())?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Process { program: PROGRAM.into(), why: "it has no input or output".into() });
        };
        let stderr = child.stderr.take();
        let log = tokio::spawn(async move { read_log(stderr, &mut |_| {}).await });
        let stdout = BufReader::with_capacity(64 * 1024, stdout);
        Ok(Store { stdin, server: Server { child, stdout, log } })
    }

    /// Hands out the archive of a path in the store here, and nothing around it.
    ///
    /// # Errors
    /// Where the store can't be opened.
    pub async fn archive(&self, info: PathInfo) -> Result<Delivery, Error> {
        // An archive that is too short is told from the next one only by the end behind it: a process for each.
        let (store, _) = self.store_here()?.closure(&[]).await?;
        let delivery = store.deliver(vec![info]);
        Ok(Delivery { bare: true, head: VecDeque::new(), ..delivery })
    }
}

impl Store {
    /// The closure of paths that are there, each path behind those that it refers to.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn closure(mut self, of: &[StorePath]) -> Result<(Self, Vec<PathInfo>), Error> {
        match self.ask(of).await {
            Ok(paths) => Ok((self, references_first(paths))),
            Err(error) => {
                drop(self.stdin);
                Err(self.server.ended(&error).await)
            }
        }
    }

    async fn ask(&mut self, of: &[StorePath]) -> io::Result<Vec<PathInfo>> {
        let stdout = &mut self.server.stdout;
        // 0: without the outputs of derivations.
        let asked =
            Message::hello().verb(Verb::QueryClosure).number(0).texts(of.iter().map(StorePath::as_str));
        self.stdin.write_all(&asked.0).await?;
        serve::hello(stdout).await?;
        let closure = serve::texts(stdout).await?;
        let asked = Message::default().verb(Verb::QueryPathInfos).texts(closure.iter().map(String::as_str));
        self.stdin.write_all(&asked.0).await?;
        PathInfo::read_all(stdout, closure.len()).await
    }

    /// Hands out paths, at least one. What they refer to must be among them before, or be at the receiver already.
    #[must_use]
    pub fn deliver(self, paths: Vec<PathInfo>) -> Delivery {
        let server = self.dump(&paths);
        let answer = serve::HELLO + serve::TAKEN * paths.len() as u64;
        let head = Message::hello().0.into();
        Delivery { server, bare: false, answer, paths: paths.into(), head, present: None }
    }

    /// Hands out the archives of paths, and nothing around them.
    #[must_use]
    pub fn archives(self, paths: Vec<PathInfo>) -> Archives {
        Archives { server: self.dump(&paths), paths: paths.into(), present: None }
    }

    /// Asks for the archives of paths.
    fn dump(self, paths: &[PathInfo]) -> Server {
        let Self { mut stdin, server } = self;
        // Its ends wait for each other less often. Where that is not allowed, it works all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(server.stdout.get_ref(), PIPE);
        let dump = |info: &PathInfo| Message::default().verb(Verb::DumpStorePath).text(info.path.as_str());
        let requests: Vec<Message> = paths.iter().map(dump).collect();
        tokio::spawn(async move {
            for request in requests {
                if stdin.write_all(&request.0).await.is_err() {
                    return;
                }
            }
            // The end of its input ends the process behind its last answer: an archive that is too short leaves nobody
            // waiting.
        });
        server
    }
}

impl Archives {
    /// Goes on to the next path, once the present one is read.
    pub fn begin(&mut self) -> Option<PathInfo> {
        let info = self.paths.pop_front()?;
        self.present = Some((info.path.clone(), info.size));
        Some(info)
    }

    /// The next bytes of its archive; none where it is through.
    ///
    /// # Errors
    /// [`Error::Failed`] where the store here is damaged, or Nix ends.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some((path, left @ 1..)) = &mut self.present else { return Ok(0) };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let why = match self.server.stdout.read(&mut buffer[..most]).await {
            Ok(0) => damaged(path),
            Ok(read) => {
                *left -= read as u64;
                return Ok(read);
            }
            Err(error) => error,
        };
        Err(self.server.ended(&why).await)
    }
}

impl PathInfo {
    /// What somebody else says of a path, with the SHA-256 of its archive.
    #[must_use]
    pub fn told(
        path: StorePath,
        size: u64,
        sha256: &[u8; 32],
        references: Vec<StorePath>,
        signatures: Vec<String>,
        address: String,
    ) -> Self {
        let digits: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let (hash, deriver) = (format!("sha256:{digits}"), String::new());
        Self { path, size, signatures, references, address, deriver, hash }
    }

    /// Reads what is known of at most so many paths.
    pub(crate) async fn read_all(
        stream: &mut (impl AsyncRead + Unpin),
        most: usize,
    ) -> io::Result<Vec<Self>> {
        let mut infos = Vec::with_capacity(most);
        while infos.len() <= most {
            let path = serve::text(stream).await?;
            if path.is_empty() {
                return Ok(infos);
            }
            infos.push(Self::read(&path, stream).await?);
        }
        Err(invalid("it gave more paths than it was asked for"))
    }

    /// SHA-256 of its archive, as the store's database has it. `None` where it has another kind of hash.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        let hash = self.hash.strip_prefix("sha256:")?;
        if hash.len() == 52 { from_base32(hash) } else { from_base16(hash) }
    }

    /// Reads what stands behind a path.
    async fn read(path: &str, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let parse = |path: &str| StorePath::parse(path).map_err(|error| invalid(error.to_string()));
        let path = parse(path)?;
        let deriver = serve::text(stream).await?;
        let references = serve::texts(stream).await?;
        // The first one is a guess of what a download would be.
        let (_, size) = (serve::number(stream).await?, serve::number(stream).await?);
        let (hash, address) = (serve::text(stream).await?, serve::text(stream).await?);
        let signatures = serve::texts(stream).await?;
        let references = references.iter().map(|path| parse(path)).collect::<io::Result<_>>()?;
        Ok(Self { path, size, signatures, references, deriver, hash, address })
    }

    /// What stands before its archive.
    pub(crate) fn head(&self) -> Message {
        Message::default()
            .verb(Verb::AddToStoreNar)
            .text(self.path.as_str())
            .text(&self.deriver)
            .text(&self.hash)
            .texts(self.references.iter().map(StorePath::as_str))
            // When it was registered: now. And whether it was built there: it was not.
            .number(0)
            .number(self.size)
            .number(0)
            .texts(self.signatures.iter().map(String::as_str))
            .text(&self.address)
    }
}

impl Delivery {
    /// How many bytes the receiver answers where it has taken all of it.
    #[must_use]
    pub fn answer(&self) -> u64 {
        self.answer
    }

    /// The next bytes; none where it is through.
    ///
    /// # Errors
    /// [`Error::Failed`] where the store here is damaged, or Nix ends.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self.next(buffer).await {
            Ok(read) => Ok(read),
            Err(error) => Err(self.server.ended(&error).await),
        }
    }

    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            match &mut self.present {
                Some((path, left @ 1..)) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    return match self.server.stdout.read(&mut buffer[..most]).await? {
                        0 => Err(damaged(path)),
                        read => {
                            *left -= read as u64;
                            Ok(read)
                        }
                    };
                }
                _ => self.begin().await?,
            }
        }
        let read = self.head.len().min(buffer.len());
        for (byte, of_head) in buffer.iter_mut().zip(self.head.drain(..read)) {
            *byte = of_head;
        }
        Ok(read)
    }

    /// Begins the next path. What is read must be the beginning of an archive, or that of the path before was not as long
    /// as the store's database says.
    async fn begin(&mut self) -> io::Result<()> {
        let before = self.present.take().map(|(path, _)| path);
        let Some(info) = self.paths.pop_front() else {
            // Behind the last one there is an end, and nothing behind that.
            let Some(last) = before else { return Ok(()) };
            if self.server.stdout.read(&mut [0]).await? > 0 {
                return Err(damaged(&last));
            }
            if !self.bare {
                self.head.extend(Message::end().0);
            }
            return Ok(());
        };
        let mut beginning = [0; ARCHIVE.len()];
        let read = self.server.stdout.read_exact(&mut beginning).await;
        if read.is_err() || beginning != ARCHIVE {
            return Err(damaged(before.as_ref().unwrap_or(&info.path)));
        }
        if !self.bare {
            self.head.extend(info.head().0);
        }
        self.head.extend(beginning);
        self.present = Some((info.path, info.size.saturating_sub(ARCHIVE.len() as u64)));
        Ok(())
    }
}

impl Server {
    /// Why it did not answer: in its own words, if it has any.
    async fn ended(&mut self, error: &io::Error) -> Error {
        let _ = self.child.start_kill();
        let status = self.child.wait().await;
        let log = (&mut self.log).await.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default();
        match finish(PROGRAM, None, status, &log) {
            Err(failed @ Error::Failed { .. }) if !log.trim().is_empty() => failed,
            Err(Error::Stopped) => Error::Stopped,
            _ => Error::Failed { message: error.to_string(), log },
        }
    }
}

/// A hash as Nix writes it: 52 digits of five bits, the last one first.
fn from_base32(text: &str) -> Option<[u8; 32]> {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut bytes = [0_u8; 32];
    for (place, character) in text.bytes().rev().enumerate() {
        let digit = DIGITS.iter().position(|digit| *digit == character)?;
        let bits = u16::try_from(digit).ok()? << (place * 5 % 8);
        let [low, high] = bits.to_le_bytes();
        let at = place * 5 / 8;
        *bytes.get_mut(at)? |= low;
        match bytes.get_mut(at + 1) {
            Some(next) => *next |= high,
            None if high == 0 => {}
            None => return None,
        }
    }
    Some(bytes)
}

/// The same, of 64 digits of four bits.
fn from_base16(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn damaged(path: &StorePath) -> io::Error {
    invalid(format!("{path} is damaged in the store here: its size is not the one that Nix knows"))
}

/// Puts each path behind those that it refers to. References that are not among them, and loops, which Nix does not let
/// in, are passed over.
#[must_use]
pub fn references_first(infos: Vec<PathInfo>) -> Vec<PathInfo> {
    enum Visit {
        Enter(StorePath),
        Leave(PathInfo),
    }
    let mut order = Vec::with_capacity(infos.len());
    let mut visits: Vec<Visit> = infos.iter().rev().map(|info| Visit::Enter(info.path.clone())).collect();
    let mut left: HashMap<StorePath, PathInfo> =
        infos.into_iter().map(|info| (info.path.clone(), info)).collect();
    while let Some(visit) = visits.pop() {
        match visit {
            Visit::Leave(info) => order.push(info),
            Visit::Enter(path) => {
                let Some(info) = left.remove(&path) else { continue };
                let references = info.references.clone();
                visits.push(Visit::Leave(info));
                visits.extend(references.into_iter().map(Visit::Enter));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::parse(&format!("/nix/store/{number:032}-x")).unwrap()
    }

    fn info(number: usize, references: &[usize]) -> PathInfo {
        PathInfo {
            path: path(number),
            size: 120,
            signatures: vec!["cache-1:abc".into()],
            references: references.iter().map(|number| path(*number)).collect(),
            deriver: String::new(),
            hash: "sha256:abc".into(),
            address: String::new(),
        }
    }

    proptest! {
        #[test]
        fn each_path_comes_behind_what_it_refers_to(
            edges in prop::collection::vec((0_usize..20, 0_usize..20), 0..60),
            order in Just((0..20).collect::<Vec<usize>>()).prop_shuffle(),
        ) {
            // Downwards only, itself included: there are no loops.
            let of = |number: usize| edges.iter().filter(|(a, b)| *a == number && b <= a).map(|(_, b)| *b).collect();
            let infos = order.iter().map(|number| { let refs: Vec<usize> = of(*number); info(*number, &refs) });
            let sorted = references_first(infos.collect());
            prop_assert_eq!(sorted.len(), 20);
            let mut before = HashSet::new();
            for info in &sorted {
                before.insert(info.path.clone());
                prop_assert!(info.references.iter().all(|reference| before.contains(reference)));
            }
        }
    }

    #[test]
    fn a_long_chain_of_references_does_not_use_up_the_stack() {
        let infos = (0..100_000_usize).rev().map(|number| info(number, &[number.saturating_sub(1)]));
        let sorted = references_first(infos.collect());
        assert_eq!((sorted[0].path.clone(), sorted.len()), (path(0), 100_000));
    }

    #[test]
    fn a_hash_is_the_same_in_both_ways_that_it_is_written() {
        // `nix-hash --to-base32`, of the SHA-256 of nothing.
        let sixteen = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let thirty_two = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let of = |hash: &str| PathInfo { hash: format!("sha256:{hash}"), ..info(1, &[]) }.sha256();
        assert!(of(sixteen).is_some());
        assert_eq!(of(sixteen), of(thirty_two));
        assert_eq!(of(&"z".repeat(52)), None, "more than 256 bits");
        assert_eq!((of("abc"), of(&"e".repeat(52))), (None, None));
    }

    #[tokio::test]
    async fn what_is_known_of_a_path_is_read_as_it_was_written() {
        let known = info(3, &[1, 3]);
        let bytes = Message::default()
            .text(&known.deriver)
            .texts(known.references.iter().map(StorePath::as_str))
            .number(7)
            .number(known.size)
            .text(&known.hash)
            .text(&known.address)
            .texts(known.signatures.iter().map(String::as_str))
            .0;
        assert_eq!(PathInfo::read(known.path.as_str(), &mut bytes.as_slice()).await.unwrap(), known);
    }
}
