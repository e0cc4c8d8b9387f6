//! What operators ask and tell.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bosco_model::HostName;
use bosco_release::Number;
use bosco_wire::api::{Enroll, ReleaseLine, ReportLine, Why};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Answer, AsOperator, Refused, aside, wait, whole};
use crate::hub::{Host, Hub, Trigger};

/// How many reports are given at once.
const REPORTS: u32 = 200;
/// The most keys of one host.
const KEYS: usize = 2;
/// The longest reason, in characters.
const WHY: usize = 200;

#[derive(Debug, Deserialize)]
pub(super) struct Watch {
    since: Option<u64>,
    wait: Option<u64>,
}

/// `GET /v1/status`
pub(super) async fn status(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Query(watch): Query<Watch>,
) -> Answer<Response> {
    let mut version = hub.version();
    let _ = timeout(wait(watch.wait), version.wait_for(|version| Some(*version) != watch.since)).await;
    let text = aside(move || {
        let unwritten = |error: serde_json::Error| crate::store::StoreError::Unreadable(error.to_string());
        Ok(hub.status(&operator.grant).and_then(|status| serde_json::to_vec(&status)).map_err(unwritten)?)
    });
    Ok(super::json(text.await?))
}

/// `GET /v1/releases`
pub(super) async fn releases(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
) -> Answer<Json<Vec<ReleaseLine>>> {
    Ok(Json(hub.store.releases().await?))
}

/// `GET /v1/releases/N`
pub(super) async fn release(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    Path(number): Path<Number>,
) -> Answer<Response> {
    let found = hub.store.document(number).await?;
    found.map(super::json).ok_or_else(|| Refused::not_there("release"))
}

/// `PUT /v1/hosts/H`
pub(super) async fn enroll(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
    Json(Enroll { keys }): Json<Enroll>,
) -> Answer<StatusCode> {
    let name = HostName::parse(&host).map_err(|error| Refused::bad(error.to_string()))?;
    if !hub.grants(&operator.grant, &name) {
        return Err(Refused::forbidden());
    }
    if keys.is_empty() || keys.len() > KEYS {
        return Err(Refused::bad("a host has one key, or two while one replaces the other"));
    }
    let enrolled = whole({
        let (hub, name) = (Arc::clone(&hub), name.clone());
        async move { Ok(hub.enroll(&name, keys).await?) }
    });
    if !enrolled.await? {
        return Err(Refused::new(StatusCode::CONFLICT, "one of these keys is somebody else's"));
    }
    crate::say(&format!("bosco hub: {} let {name} in", operator.name));
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/hosts/H`
pub(super) async fn forget(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
) -> Answer<StatusCode> {
    let host = operator.host(&hub, &host)?;
    let name = host.name.clone();
    whole(async move { Ok(hub.forget(&host).await?) }).await?;
    crate::say(&format!("bosco hub: {} lets {name} in no more", operator.name));
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(super) struct Last {
    last: Option<u32>,
}

/// `GET /v1/hosts/H/reports`
pub(super) async fn reports(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
    Query(Last { last }): Query<Last>,
) -> Answer<Json<Vec<ReportLine>>> {
    let host = operator.host(&hub, &host)?;
    Ok(Json(hub.store.reports(&host.name, last.unwrap_or(1).clamp(1, REPORTS)).await?))
}

/// `POST /v1/hosts/H/trigger`
pub(super) async fn trigger(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
) -> Answer<StatusCode> {
    let host = operator.host(&hub, &host)?;
    if host.now().connections == 0 {
        let why = format!("{} is not connected; it tries by itself when it is", host.name);
        return Err(Refused::new(StatusCode::CONFLICT, why));
    }
    host.now().trigger = Trigger::Wanted;
    host.bell.send_replace(());
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/hosts/H/hold`
pub(super) async fn hold(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
    Json(Why { why }): Json<Why>,
) -> Answer<StatusCode> {
    let host = operator.host(&hub, &host)?;
    let why: String = why.chars().filter(|c| !c.is_control()).take(WHY).collect();
    let held = if why.is_empty() { operator.name } else { format!("{}: {why}", operator.name) };
    whole(tell(hub, host, Some(held))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/hosts/H/resume`
pub(super) async fn resume(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(host): Path<String>,
) -> Answer<StatusCode> {
    let host = operator.host(&hub, &host)?;
    whole(async move {
        let hold = host.now().standing.as_ref().and_then(|standing| standing.hold.clone());
        if let Some(hold) = hold {
            hub.store.lift(&host.name, Some(hold.number)).await?;
            host.now().lift = Some(hold.number);
        }
        hub.note(&host, |now| now.alarm = None);
        tell(hub, host, None).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells a host to stay as it is, or no more.
async fn tell(hub: Arc<Hub>, host: Arc<Host>, held: Option<String>) -> Answer<()> {
    hub.store.hold(&host.name, held.as_deref()).await?;
    hub.touch(&host, |now| {
        // That it may go on has to be heard as well: by a trigger, which is what is wanted then.
        if held.is_none() {
            now.trigger = Trigger::Wanted;
        }
        now.held = held;
        now.told = false;
    });
    host.bell.send_replace(());
    Ok(())
}
