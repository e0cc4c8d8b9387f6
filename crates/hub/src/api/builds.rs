//! Operators have the hub build.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bosco_release::MAX_PROFILES;
use bosco_wire::api::{Build, Building};
use tokio::time::timeout;

use super::{Answer, AsOperator, Refused, wait};
use crate::builds;
use crate::hub::Hub;

/// `POST /v1/builds`
pub(super) async fn build(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Json(build): Json<Build>,
) -> Answer<Json<Building>> {
    let fleet = hub.fleet();
    if !fleet.hub.as_ref().is_some_and(|hub| hub.builds) {
        let why = "this hub does not build: its bosco.toml has no `hub.builds`";
        return Err(Refused::new(StatusCode::FORBIDDEN, why));
    }
    // Nix takes from root whatever it is given: one operator could put something into what is built for another.
    if rustix::process::geteuid().is_root() {
        let why = "this hub does not build: it runs as root, whom Nix believes whatever operators send";
        return Err(Refused::new(StatusCode::FORBIDDEN, why));
    }
    // What is built here fills the disk here: who may change no host has no use for it.
    if !fleet.operators.get(&operator.name).is_some_and(|operator| operator.signs) {
        return Err(Refused::forbidden());
    }
    if !(1..=MAX_PROFILES + 1).contains(&build.outputs.len()) {
        let why = format!("a host has a system and at most {MAX_PROFILES} profiles beside it");
        return Err(Refused::bad(why));
    }
    let (seen, limit) = (build.seen.clone(), wait(Some(build.wait)));
    let job = builds::ask(&hub, build);
    let mut job =
        job.ok_or_else(|| Refused::new(StatusCode::TOO_MANY_REQUESTS, "too much waits to be built"))?;
    let changed = job.wait_for(|now| Some(now) != seen.as_ref());
    let now = match timeout(limit, changed).await {
        Ok(Ok(now)) => now.clone(),
        Ok(Err(_)) => Building::Failed { why: "the hub ends".into() },
        Err(_) => seen.unwrap_or_default(),
    };
    Ok(Json(now))
}
