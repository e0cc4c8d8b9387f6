//! The SSH server: who is there, and what they may open. No shell, no command, no forwarding but what is listed here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bosco_model::HostName;
use bosco_release::Key;
use bosco_wire::api::{HTTP, JOIN, LONGEST_WAIT, SSHD};
use bosco_wire::line::Line;
use bosco_wire::link::preferred;
use bosco_wire::stream::Stream;
use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::api;
use crate::hub::{Hub, Who};
use crate::logins::{Logins, Turn};
use crate::sessions::farewell;
use crate::sftp;
use crate::visits::{self, PREFIX};

/// How long somebody may take to say anything at all.
const GREETING: Duration = Duration::from_secs(10);
/// How long somebody may take to say who they are.
const LOGIN: Duration = Duration::from_secs(30);
/// How long a stranger may stay: as long as one question may wait, and a while. Who still waits comes again.
const STRANGER: Duration = Duration::from_secs(LONGEST_WAIT + 60);
/// How long to wait where nobody can be let in: no more files, say.
const BREATH: Duration = Duration::from_millis(100);
/// How long a connection may be silent until it is asked whether somebody is there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(60);
const UNANSWERED: usize = 3;
/// How many connections one key may have; and how many strangers may be there in all.
const CONNECTIONS: usize = 24;
/// How many channels one connection may have at once.
const CHANNELS: usize = 16;
/// What a channel may have under way towards the hub, in bytes.
const WINDOW: u32 = 1024 * 1024;
/// How much the socket's own buffer holds towards a host. It has to be more than a window.
const SOCKET: u32 = 16 * 1024 * 1024;

/// What the server is set to.
fn config(key: &PrivateKey) -> russh::server::Config {
    russh::server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-bosco".into()),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        auth_rejection_time: Duration::from_millis(500),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.clone()],
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: UNANSWERED,
        nodelay: true,
        window_size: WINDOW,
        preferred: preferred(),
        max_auth_attempts: 12,
        ..russh::server::Config::default()
    }
}

/// Lets everybody in who has a key, for ever.
pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener) {
    let config = Arc::new(config(&hub.key));
    let logins = Arc::new(Logins::default());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (hub, config, logins) = (Arc::clone(&hub), Arc::clone(&config), Arc::clone(&logins));
                tokio::spawn(async move {
                    // There are too many: an honest one comes again.
                    let Some(turn) = logins.turn(from.ip()).await else { return };
                    connection(hub, config, stream, from, turn).await;
                });
            }
            // Whatever it is, the next one may come through.
            Err(_) => sleep(BREATH).await,
        }
    }
}

async fn connection(
    hub: Arc<Hub>,
    config: Arc<russh::server::Config>,
    stream: TcpStream,
    from: SocketAddr,
    mut turn: Turn,
) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET as usize);
    let line = Line::new(stream);
    let (tell, told) = tokio::sync::oneshot::channel();
    let door = Door {
        hub: Arc::clone(&hub),
        from: from.ip(),
        who: None,
        tell: Some(tell),
        channels: Arc::new(Semaphore::new(CHANNELS)),
        sftp: None,
    };
    let login = async {
        let running = timeout(GREETING, run_stream(config, line.clone(), door)).await.ok()?.ok()?;
        let (who, key) = timeout(LOGIN, told).await.ok()?.ok()?;
        Some((running, who, key))
    };
    let came = tokio::select! {
        came = login => came,
        _ = &mut turn.lost => None,
    };
    let Some((running, who, key)) = came else {
        line.cut();
        return;
    };
    drop(turn);
    let handle = running.handle();
    let stranger = matches!(who, Who::Stranger(_));
    let me = (who, key);
    let began = hub.sessions.begin(me.0.clone(), me.1.clone(), (handle.clone(), line.clone()), CONNECTIONS);
    let Some(session) = began else {
        farewell(
            &handle,
            &line,
            Disconnect::TooManyConnections,
            "there are too many connections with this key",
        )
        .await;
        return;
    };
    if !hub.is_known(&me) {
        // Somebody has let go of this key between the look at it and now.
        line.cut();
    } else if !stranger {
        let _ = running.await;
    } else if timeout(STRANGER, running).await.is_err() {
        line.cut();
    }
    hub.sessions.over(session);
}

/// Somebody at the door, and behind it.
struct Door {
    hub: Arc<Hub>,
    from: IpAddr,
    who: Option<Who>,
    tell: Option<tokio::sync::oneshot::Sender<(Who, Key)>>,
    channels: Arc<Semaphore>,
    /// The session channel that may become an SFTP session, and its place among the channels.
    sftp: Option<(Channel<Msg>, OwnedSemaphorePermit)>,
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = Key::of(offer.public_key).is_ok_and(|key| self.look(user, &key).is_some());
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Ok(key) = Key::of(key.public_key) else { return Ok(Auth::reject()) };
        let Some(who) = self.look(user, &key) else { return Ok(Auth::reject()) };
        self.who = Some(who.clone());
        if let Some(tell) = self.tell.take() {
            let _ = tell.send((who, key));
        }
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !matches!(self.who, Some(Who::Host(_))) || self.sftp.is_some() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else if let Ok(turn) = Arc::clone(&self.channels).try_acquire_owned() {
            self.sftp = Some((channel, turn));
            reply.accept().await;
        } else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(Who::Host(host)), "sftp", Some((opened, turn))) = (&self.who, name, self.sftp.take())
        else {
            return session.channel_failure(channel);
        };
        let world = self.hub.world(host);
        session.channel_success(channel)?;
        tokio::spawn(async move {
            let _ = sftp::serve(opened.into_stream(), world).await;
            drop(turn);
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(who), Ok(turn)) = (self.who.clone(), Arc::clone(&self.channels).try_acquire_owned()) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let hub = Arc::clone(&self.hub);
        match self.destination(&who, host, port) {
            Some(Destination::Http) => {
                reply.accept().await;
                let from = self.from;
                tokio::spawn(async move {
                    api::serve(hub, who, from, Stream::new(channel)).await;
                    drop(turn);
                });
            }
            Some(Destination::Sshd(host)) => {
                tokio::spawn(async move {
                    visit(&hub, &host, channel, reply).await;
                    drop(turn);
                });
            }
            Some(Destination::Visitor(name)) => {
                reply.accept().await;
                self.hub.visits.come(&name, Stream::new(channel));
            }
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }
}

/// Where a channel may go.
enum Destination {
    Http,
    /// A host's sshd.
    Sshd(HostName),
    /// Somebody who waits for this host.
    Visitor(String),
}

impl Door {
    /// Who has this key, as the user that they say to be.
    fn look(&self, user: &str, key: &Key) -> Option<Who> {
        let stranger = || (user == JOIN && *key != self.hub.public).then(|| Who::Stranger(key.clone()));
        self.hub.who(key).or_else(stranger)
    }

    fn destination(&self, who: &Who, host: &str, port: u32) -> Option<Destination> {
        if (host, port) == HTTP {
            return Some(Destination::Http);
        }
        match who {
            Who::Operator(_, grant) if port == SSHD => {
                let name = HostName::parse(host).ok()?;
                self.hub.grants(grant, &name).then_some(Destination::Sshd(name))
            }
            Who::Host(name) if port == SSHD => {
                let visit = host.strip_prefix(PREFIX)?;
                self.hub.visits.is_awaited(name, visit).then(|| Destination::Visitor(visit.to_owned()))
            }
            _ => None,
        }
    }
}

/// Asks a host's agent to come, and joins the two.
async fn visit(hub: &Hub, name: &HostName, channel: Channel<Msg>, reply: ChannelOpenHandle) {
    let host = hub.host(name).filter(|host| host.now().connections > 0);
    let visit = host.and_then(|host| {
        let visit = hub.visits.begin(name)?;
        host.now().visits.push(visit.name.clone());
        host.bell.send_replace(());
        Some(visit)
    });
    let Some(visit) = visit else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return;
    };
    match visit.came().await {
        Some(came) => {
            reply.accept().await;
            visits::join(Stream::new(channel), came).await;
        }
        None => reply.reject(ChannelOpenFailure::ConnectFailed).await,
    }
}
