//! Machines that ask to be let in, and operators who let them in.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use bosco_model::HostName;
use bosco_release::Trust;
use bosco_wire::api::{Approve, Join, JoinLine, Joining};
use tokio::time::timeout;

use super::{Answer, AsOperator, From, Refused, wait, whole};
use crate::hub::{Hub, Who, now};

/// Whom a host trusts, as the newest release has it, or else the hub's own `bosco.toml`.
fn trust(hub: &Hub, host: &HostName) -> Trust {
    let current = hub.current().borrow().clone();
    let part = current.as_ref().and_then(|current| current.parts.get(host));
    let newest = part.map(|part| part.manifest.trust.clone());
    let here =
        hub.fleet().trust_of(host, &part.map_or_else(BTreeSet::new, |part| part.manifest.tags.clone()));
    newest.filter(|newest| newest.version >= here.version).unwrap_or(here)
}

/// `POST /v1/join`
pub(super) async fn join(
    State(hub): State<Arc<Hub>>,
    Extension(who): Extension<Who>,
    Extension(From(from)): Extension<From>,
    Json(join): Json<Join>,
) -> Answer<Json<Joining>> {
    match who {
        Who::Host(name) if name == join.host => Ok(Json(Joining { trust: Some(trust(&hub, &name)) })),
        Who::Host(name) => Err(Refused::new(
            StatusCode::CONFLICT,
            format!("this key is {name}'s, a host that is let in already"),
        )),
        Who::Operator(..) => Err(Refused::forbidden()),
        Who::Stranger(key) => {
            let waiting = hub.joins.ask(join.host.clone(), &key, &hub.public, &from.to_string(), now());
            let Some(mut waiting) = waiting else {
                return Err(Refused::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many machines ask to be let in",
                ));
            };
            let approved = timeout(wait(Some(join.wait)), waiting.approved()).await.is_ok();
            Ok(Json(Joining { trust: approved.then(|| trust(&hub, &join.host)) }))
        }
    }
}

/// `GET /v1/joins`
pub(super) async fn list(State(hub): State<Arc<Hub>>, operator: AsOperator) -> Json<Vec<JoinLine>> {
    let mut lines = hub.joins.list();
    lines.retain(|line| hub.grants(&operator.grant, &line.host));
    Json(lines)
}

/// `POST /v1/joins/approve`
pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Json(Approve { code }): Json<Approve>,
) -> Answer<Json<JoinLine>> {
    let line = hub.joins.find(&code).filter(|line| hub.grants(&operator.grant, &line.host));
    let line = line.ok_or_else(|| {
        Refused::new(
            StatusCode::NOT_FOUND,
            "no machine that asks to be let in shows this code: somebody may stand between it and the hub",
        )
    })?;
    let there = hub.host(&line.host).is_some_and(|host| host.now().gone.is_none());
    if there {
        let why = format!(
            "{0} is let in already, with another key; `bosco forget {0}` first lets this one in",
            line.host
        );
        return Err(Refused::new(StatusCode::CONFLICT, why));
    }
    let (name, keys) = (line.host.clone(), vec![line.key.clone()]);
    let enrolled = whole({
        let hub = Arc::clone(&hub);
        async move { Ok(hub.enroll(&name, keys).await?) }
    });
    if !enrolled.await? {
        return Err(Refused::new(StatusCode::CONFLICT, "this key is somebody else's"));
    }
    crate::say(&format!("bosco hub: {} let {} in with {:?}", operator.name, line.host, line.key));
    hub.joins.approve(&line.key);
    Ok(Json(line))
}
