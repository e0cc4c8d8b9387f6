//! What is in closures: from operators, one by one, and to hosts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bosco_release::{Contents, Digest};
use bytes::Bytes;

use super::{Answer, AsHost, AsOperator, Refused, aside};
use crate::hub::{Hub, RELEASES, now};

/// `GET /v1/host/closures/D`
pub(super) async fn own(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Path(digest): Path<String>,
) -> Answer<Response> {
    let digest = Digest::parse(&digest).map_err(|error| Refused::bad(error.to_string()))?;
    if !hub.store.is_closure_of(&host.name, &digest, RELEASES).await? {
        return Err(Refused::not_there("closure"));
    }
    give(&hub, &digest).await
}

/// `GET /v1/closures/D`
pub(super) async fn any(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    Path(digest): Path<String>,
) -> Answer<Response> {
    let digest = Digest::parse(&digest).map_err(|error| Refused::bad(error.to_string()))?;
    give(&hub, &digest).await
}

async fn give(hub: &Hub, digest: &Digest) -> Answer<Response> {
    let contents = hub.store.closure(digest).await?.ok_or_else(|| Refused::not_there("closure"))?;
    Ok(super::json(contents))
}

/// `POST /v1/closures/missing`
pub(super) async fn missing(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    Json(asked): Json<Vec<Digest>>,
) -> Answer<Json<Vec<Digest>>> {
    // Whoever asks is about to publish what names them.
    let there = hub.store.want_closures(&asked, now()).await?;
    Ok(Json(asked.into_iter().filter(|digest| !there.contains(digest)).collect()))
}

/// `POST /v1/closures`
pub(super) async fn keep(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    body: Bytes,
) -> Answer<Json<Digest>> {
    let (digest, contents) = aside(move || {
        let contents: Contents =
            serde_json::from_slice(&body).map_err(|error| Refused::bad(error.to_string()))?;
        Ok((contents.digest(), contents))
    })
    .await?;
    match hub.store.keep_closure(&digest, &contents, now()).await? {
        0 => Ok(Json(digest)),
        missing => Err(Refused::bad(format!("{missing} archives of the closure are missing here"))),
    }
}
