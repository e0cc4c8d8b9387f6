//! A hub that only serves SFTP, on loopback, and what hosts come to it with: their own programs over SSH, or raw packets.

#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

pub mod raw;

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bosco_hub::sftp::{Limits, Quota, World, Worlds, serve};
use bosco_model::HostName;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use raw::Raw;

/// The hosts of the tests.
pub const HOSTS: [&str; 2] = ["ada", "bob"];

/// The user that all hosts log in as: it is the key that counts.
const USER: &str = "bosco";

/// Room for what tests usually do.
pub const ROOM: Limits =
    Limits { backup: Quota { bytes: 50_000_000, files: 1000 }, logs: Quota { bytes: 1_000_000, files: 100 } };

/// A hub of a test. It ends with it, and its folder goes.
pub struct Hub {
    dir: PathBuf,
    port: u16,
    worlds: Arc<Worlds>,
    limits: Limits,
    runtime: Runtime,
}

impl Hub {
    /// One with these limits for each host.
    pub fn start(limits: Limits) -> Self {
        testbed::prepare_clients().expect("restic, rclone and OpenSSH's client");
        let dir = folder();
        let key = |name: &str| {
            let file = dir.join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(&file)
                .status();
            assert!(made.expect("ssh-keygen").success());
            file
        };
        let keys = HOSTS.map(|host| {
            let public = key(host).with_extension("pub");
            (russh::keys::load_public_key(public).unwrap(), HostName::parse(host).unwrap())
        });
        let config = Config {
            keys: vec![russh::keys::load_secret_key(key("hub"), None).unwrap()],
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            ..Config::default()
        };
        let worlds = Arc::new(Worlds::new(dir.join("hosts")));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = fs::read_to_string(dir.join("hub.pub")).unwrap();
        fs::write(dir.join("known_hosts"), format!("[127.0.0.1]:{port} {public}")).unwrap();
        let door = Door { hosts: Arc::new(HashMap::from(keys)), worlds: Arc::clone(&worlds), limits };
        runtime.spawn(accept(listener, Arc::new(config), door));
        Self { dir, port, worlds, limits, runtime }
    }

    /// A path in the test's own folder, outside of all worlds.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// A path in a host's folder on the hub, as an operator sees it. The folder that it is in is made.
    pub fn on_disk(&self, host: &str, path: &str) -> PathBuf {
        let path = self.dir.join("hosts").join(host).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A host's world, with the limits of this hub.
    pub fn world(&self, host: &str) -> Arc<World> {
        self.worlds.of(&HostName::parse(host).unwrap(), self.limits)
    }

    /// Gives a host other limits.
    pub fn set_limits(&self, host: &str, limits: Limits) {
        drop(self.worlds.of(&HostName::parse(host).unwrap(), limits));
    }

    /// A session of a host without SSH around it, for what no client would send.
    pub fn raw(&self, host: &str) -> Raw {
        let mut raw = self.stranger(host);
        raw.greet();
        raw
    }

    /// The same, before the greeting.
    pub fn stranger(&self, host: &str) -> Raw {
        let (here, there) = tokio::io::duplex(1 << 16);
        let served = self.runtime.spawn(serve(there, self.world(host)));
        Raw::new(self.runtime.handle().clone(), here, served)
    }

    /// What OpenSSH's `sftp` says to these lines, one after the other until one fails.
    pub fn sftp(&self, host: &str, lines: &str) -> Output {
        self.sftp_with(host, &[], lines)
    }

    /// The same with further options.
    pub fn sftp_with(&self, host: &str, options: &[&str], lines: &str) -> Output {
        let mut sftp = Command::new("sftp");
        sftp.args(["-q", "-b", "-"])
            .args(options)
            .args(self.ssh_options(host))
            .args(["-P", &self.port.to_string()])
            .arg(format!("{USER}@127.0.0.1"));
        finish(sftp.current_dir(&self.dir), lines)
    }

    /// What it says to lines that all succeed.
    pub fn sftp_ok(&self, host: &str, lines: &str) -> String {
        let output = self.sftp(host, lines);
        assert!(output.status.success(), "{lines}: {}", text(&output));
        text(&output)
    }

    fn ssh_options(&self, host: &str) -> Vec<String> {
        let known = self.dir.join("known_hosts");
        let options = [
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
        ];
        let key = self.dir.join(host).display().to_string();
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
        ["-F".to_owned(), "none".to_owned(), "-i".to_owned(), key].into_iter().chain(options).collect()
    }

    /// `restic` as a host runs it, on a repository in its backup.
    pub fn restic(&self, host: &str) -> Command {
        let ssh = format!(
            "sftp.command=ssh {} -p {} {USER}@127.0.0.1 -s sftp",
            self.ssh_options(host).join(" "),
            self.port
        );
        let mut restic = Command::new("restic");
        restic
            .current_dir(&self.dir)
            .env("RESTIC_PASSWORD", "a test")
            .env("RESTIC_CACHE_DIR", self.beside("cache"))
            .args(["-o", &ssh, "-r", &format!("sftp:{USER}@127.0.0.1:/backup/restic")]);
        restic
    }

    /// `rclone` as a host runs it; the remote is `hub:`.
    pub fn rclone(&self, host: &str) -> Command {
        let mut rclone = Command::new("rclone");
        rclone
            .current_dir(&self.dir)
            .env("RCLONE_CONFIG", "/dev/null")
            .env("RCLONE_CONFIG_HUB_TYPE", "sftp")
            .env("RCLONE_CONFIG_HUB_HOST", "127.0.0.1")
            .env("RCLONE_CONFIG_HUB_PORT", self.port.to_string())
            .env("RCLONE_CONFIG_HUB_USER", USER)
            .env("RCLONE_CONFIG_HUB_KEY_FILE", self.dir.join(host))
            .env("RCLONE_CONFIG_HUB_KNOWN_HOSTS_FILE", self.dir.join("known_hosts"))
            .env("RCLONE_CONFIG_HUB_SHELL_TYPE", "none")
            .args(["--retries", "1", "--low-level-retries", "1"]);
        rclone
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A folder of one test's own.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("bosco-hub-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs a command with this input to its end, for some minutes at most.
pub fn finish(command: &mut Command, input: &str) -> Output {
    use std::io::Write;
    let mut timed = Command::new("timeout");
    timed.args(["--kill-after=5", "240"]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        timed.current_dir(dir);
    }
    timed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        timed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs a command that succeeds, and says what it said.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command, "");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

/// All that a command said.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether two folders have the same in them.
pub fn same(left: &Path, right: &Path) -> bool {
    Command::new("diff").arg("-r").args([left, right]).status().unwrap().success()
}

/// Bytes that no compression makes smaller, other ones for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Who is let in, and to what.
#[derive(Clone)]
struct Door {
    hosts: Arc<HashMap<PublicKey, HostName>>,
    worlds: Arc<Worlds>,
    limits: Limits,
}

async fn accept(listener: TcpListener, config: Arc<Config>, door: Door) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let connection = Connection { door: door.clone(), host: None, channels: HashMap::new() };
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            if let Ok(session) = russh::server::run_stream(config, socket, connection).await {
                let _ = session.await;
            }
        });
    }
}

struct Connection {
    door: Door,
    host: Option<HostName>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = |(at, _): &(&PublicKey, &HostName)| at.key_data() == key.public_key.key_data();
        self.host = self.door.hosts.iter().find(known).map(|(_, host)| host.clone());
        Ok(if self.host.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(channel), Some(host), "sftp") = (self.channels.remove(&id), &self.host, name) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let world = self.door.worlds.of(host, self.door.limits);
        let handle = session.handle();
        tokio::spawn(async move {
            let mut stream = channel.into_stream();
            let status = serve(&mut stream, world).await.is_err().into();
            let _ = handle.exit_status_request(id, status).await;
        });
        Ok(())
    }
}
