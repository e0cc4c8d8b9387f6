//! What a host says and hears.

use std::sync::{Arc, OnceLock};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bosco_activation::{Report, Request};
use bosco_release::{Digest, SignedReport};
use bosco_wire::api::{Hello, Orders, Standing, Welcome};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Answer, AsHost, Refused, wait};
use crate::hub::{Current, Host, Hub, Trigger, now};
use crate::standing::cleaned;

/// A host that asks for orders. It counts as connected for as long as this is there.
struct Asking {
    hub: Arc<Hub>,
    host: Arc<Host>,
}

impl Asking {
    fn new(hub: &Arc<Hub>, host: &Arc<Host>) -> Self {
        hub.heard(host, |now| now.connections += 1);
        Self { hub: Arc::clone(hub), host: Arc::clone(host) }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // It is heard no more; when it was heard last, it has said itself.
        self.hub.touch(&self.host, |now| now.connections = now.connections.saturating_sub(1));
    }
}

/// What is kept with a connection: whether it is one for control. Who has once waited for orders does so again, and is not
/// gone between two questions.
#[derive(Clone, Default)]
pub(super) struct Control(Arc<OnceLock<Asking>>);

/// `POST /v1/host/hello`
pub(super) async fn hello(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Json(hello): Json<Hello>,
) -> Answer<Json<Welcome>> {
    let Hello { ratchet, standing } = hello;
    let (mut token, mut alarm) = (String::new(), None);
    hub.heard(&host, |now| {
        let (next, given, wrong) = now.ratchet.hello(&hub.secret, &host.name, ratchet.as_deref());
        now.ratchet = next;
        token = given;
        if let Some(wrong) = wrong {
            now.alarm = Some(wrong.to_owned());
        }
        alarm.clone_from(&now.alarm);
        now.standing = Some(cleaned(standing));
        // What it was told over the connection before may not have come.
        now.told = false;
        if now.trigger == Trigger::Told {
            now.trigger = Trigger::Wanted;
        }
    });
    settle(&hub, &host).await?;
    Ok(Json(Welcome { ratchet: token, alarm }))
}

/// `POST /v1/host/standing`
pub(super) async fn standing(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Json(standing): Json<Standing>,
) -> Answer<StatusCode> {
    hub.heard(&host, |now| {
        now.ratchet = now.ratchet.confirm();
        now.standing = Some(cleaned(standing));
    });
    settle(&hub, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A hold that the host has let go of need not be let go of again.
async fn settle(hub: &Hub, host: &Host) -> Answer<()> {
    let done = {
        let now = host.now();
        let holds = now.standing.as_ref().and_then(|standing| standing.hold.as_ref());
        now.lift.is_some_and(|up_to| holds.is_none_or(|hold| hold.number > up_to))
    };
    if done {
        hub.store.lift(&host.name, None).await?;
        host.now().lift = None;
    }
    Ok(())
}

/// What a host asks for orders with.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The manifest that it has.
    leaf: Option<Digest>,
    wait: Option<u64>,
}

/// `GET /v1/host/orders`
pub(super) async fn orders(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Extension(control): Extension<Control>,
    Query(asked): Query<Asked>,
) -> Answer<Response> {
    let wait = wait(asked.wait);
    let until = Instant::now() + wait;
    // A change between a look and the wait for it is not missed: both have seen what was there before.
    let mut release = hub.current();
    let mut bell = host.bell.subscribe();
    // Who does not wait has come for this one question.
    let _once = if wait.is_zero() {
        Some(Asking::new(&hub, &host))
    } else {
        control.0.get_or_init(|| Asking::new(&hub, &host));
        None
    };
    {
        let mut now = host.now();
        now.ratchet = now.ratchet.confirm();
        if now.trigger == Trigger::Told {
            now.trigger = Trigger::No;
        }
    }
    loop {
        bell.borrow_and_update();
        let current = release.borrow_and_update().clone();
        if let Some(orders) = new_to(&host, current.as_deref(), asked.leaf) {
            return Ok(Json(orders).into_response());
        }
        let change = async {
            tokio::select! {
                _ = release.changed() => {}
                _ = bell.changed() => {}
            }
        };
        if timeout_at(until, change).await.is_err() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}

/// What a host has to hear, if there is anything.
fn new_to(host: &Host, current: Option<&Current>, leaf: Option<Digest>) -> Option<Orders> {
    let part = current.and_then(|current| current.parts.get(&host.name));
    let part = part.filter(|part| Some(part.leaf) != leaf);
    let mut now = host.now();
    let untold = !now.told && (now.held.is_some() || now.lift.is_some());
    let trigger = now.trigger == Trigger::Wanted;
    if part.is_none() && !trigger && !untold && now.visits.is_empty() {
        return None;
    }
    now.told = true;
    if trigger {
        now.trigger = Trigger::Told;
    }
    Some(Orders {
        sealed: part.map(|part| (*part.sealed).clone()),
        trigger,
        lift: now.lift,
        held: now.held.clone(),
        visits: std::mem::take(&mut now.visits),
    })
}

/// `POST /v1/host/reports`
pub(super) async fn report(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Json(signed): Json<SignedReport>,
) -> Answer<StatusCode> {
    let keys = host.now().keys.clone();
    let report = signed.open::<Report>(&keys).map_err(|error| Refused::bad(error.to_string()))?;
    if report.host != host.name || report.fleet != hub.fleet().fleet {
        return Err(Refused::bad("the report is another host's"));
    }
    if !Request::is_id(&report.id) {
        return Err(Refused::bad("the report is of nothing that can be known by its id"));
    }
    let _turn = host.reporting.lock().await;
    hub.store.report(&host.name, &report.id, &signed, now()).await?;
    hub.changed();
    Ok(StatusCode::NO_CONTENT)
}
