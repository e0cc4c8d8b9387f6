//! What a host's polls take while something else goes on: `bosco-poll KEYFILE HUB HUBKEY SECONDS`, to be run on the host.
//!
//! It connects as the host's agent does for control, by the host's own key, and asks for orders without waiting for any, again
//! and again. Each line that it prints is one poll: when it began, in seconds since 1970, and how many seconds it took.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bosco_release::Key;
use bosco_wire::api::Orders;
use bosco_wire::link::{Hub, Width};
use russh::keys::PrivateKey;
use tokio::time::sleep;

/// How long it rests between two polls.
const PAUSE: Duration = Duration::from_millis(25);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, address, key, seconds] = args.as_slice() else {
        anyhow::bail!("bosco-poll KEYFILE HUB HUBKEY SECONDS");
    };
    let identity = PrivateKey::read_openssh_file(PathBuf::from(file)).context("the key can't be read")?;
    let hub = Hub { address: address.clone(), keys: vec![Key::parse(key)?], identity: Arc::new(identity) };
    let link = hub.connect("poll", Width::Narrow).await?;
    let mut http = link.http().await?;
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    while Instant::now() < end {
        let (at, began) = (SystemTime::now().duration_since(UNIX_EPOCH)?, Instant::now());
        let _: Option<Orders> = http.wait("/v1/host/orders?wait=0", Duration::ZERO).await?;
        println!("{:.6} {:.6}", at.as_secs_f64(), began.elapsed().as_secs_f64());
        sleep(PAUSE).await;
    }
    link.close().await;
    Ok(())
}
