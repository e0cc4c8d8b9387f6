//! Bundles of secrets, in and out: ciphertext. Nobody gets one but the host that it is for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bosco_release::Digest;
use bosco_secrets::Bundle;
use bytes::Bytes;

use super::{Answer, AsHost, AsOperator, Refused, aside};
use crate::hub::{Hub, now};

/// How much of secrets that no release names is kept of an operator, in bytes: several times what a large fleet has at once.
const MOST_UNNAMED: u64 = 1 << 30;

fn parse(digest: &str) -> Answer<Digest> {
    Digest::parse(digest).map_err(|error| Refused::bad(error.to_string()))
}

/// `GET /v1/host/secrets/D`
pub(super) async fn own(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Path(digest): Path<String>,
) -> Answer<Response> {
    let digest = parse(&digest)?;
    // What an older release named may have been revoked since.
    let is_own = {
        let current = hub.current().borrow().clone();
        let part = current.as_ref().and_then(|current| current.parts.get(&host.name));
        part.is_some_and(|part| part.manifest.secrets == Some(digest))
    };
    let not_there = || Refused::not_there("bundle of secrets");
    if !is_own {
        return Err(not_there());
    }
    let bundle = hub.store.bundle(&digest).await?.ok_or_else(not_there)?;
    Ok(([(CONTENT_TYPE, "application/json")], bundle).into_response())
}

/// `POST /v1/secrets/missing`
pub(super) async fn missing(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    Json(asked): Json<Vec<Digest>>,
) -> Answer<Json<Vec<Digest>>> {
    // Whoever asks is about to publish what names them.
    let there = hub.store.want_bundles(&asked, now()).await?;
    Ok(Json(asked.into_iter().filter(|digest| !there.contains(digest)).collect()))
}

/// `PUT /v1/secrets/D`
pub(super) async fn keep(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Path(digest): Path<String>,
    body: Bytes,
) -> Answer<StatusCode> {
    let digest = parse(&digest)?;
    let body = aside(move || {
        if Digest::of(&[&body]) != digest {
            return Err(Refused::bad("the secrets are not those that were announced"));
        }
        Bundle::parse(&body).map_err(|error| Refused::bad(error.to_string()))?;
        Ok(body)
    })
    .await?;
    if !hub.store.keep_bundle(&digest, &body, &operator.name, MOST_UNNAMED, now()).await? {
        let text = format!(
            "you have brought more than {} MiB of secrets that no release names; they go a day after somebody asked for \
             them last",
            MOST_UNNAMED >> 20
        );
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, text));
    }
    Ok(StatusCode::NO_CONTENT)
}
