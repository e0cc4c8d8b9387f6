//! What a host says and hears.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bosco_activation::{Report, Request};
use bosco_release::{Digest, SignedReport};
use bosco_wire::api::{Hello, Orders, Standing, Welcome};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, AsHost, Refused, wait};
use crate::hub::{Current, GRACE, Host, Hub, Trigger, now};
use crate::standing::cleaned;

/// A host's connection for control, for as long as one of its questions waits.
struct Connected {
    hub: Arc<Hub>,
    host: Arc<Host>,
}

impl Connected {
    fn new(hub: Arc<Hub>, host: Arc<Host>) -> Self {
        hub.heard(&host, |now| now.waiting += 1);
        Self { hub, host }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.heard(&self.host, |now| {
            now.waiting = now.waiting.saturating_sub(1);
            now.answered = Some(std::time::Instant::now());
        });
        // Whoever looks on hears of it, should it not come back.
        let (hub, host) = (Arc::clone(&self.hub), Arc::clone(&self.host));
        tokio::spawn(async move {
            sleep(GRACE).await;
            if !host.now().is_connected() {
                hub.changed();
            }
        });
    }
}

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
    let trust = super::join::trust(&hub, &host.name);
    Ok(Json(Welcome { ratchet: token, alarm, trust: Some(trust) }))
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
    Query(asked): Query<Asked>,
) -> Answer<Response> {
    let until = Instant::now() + wait(asked.wait);
    // A change between a look and the wait for it is not missed: both have seen what was there before.
    let mut release = hub.current();
    let mut bell = host.bell.subscribe();
    let _connected = Connected::new(Arc::clone(&hub), Arc::clone(&host));
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
