//! Giving space back: meta is asked from time to time what became of what the bookie holds, and the engine is handed
//! its word.

use std::collections::BTreeSet;
use std::time::Duration;

use host::Host;
use meta_client::{MetaClient, MetaError};
use types::command::{Answer, Query};
use types::{BookieId, LedgerId};

use super::asking::{self, Asking};
use super::handle::{EngineGone, EngineHandle};
use crate::Reclaim;

/// The first time, soon: a bookie that was full when it stopped is waited for.
const FIRST: Duration = Duration::from_secs(2);

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Engine(#[from] EngineGone),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// Asks for as long as the engine lives.
pub(super) async fn reclaim(
    host: Host,
    meta: MetaClient,
    me: BookieId,
    engine: EngineHandle,
    every: Duration,
) {
    let mut asking = Asking::default();
    host.clock.sleep(every.min(FIRST)).await;
    loop {
        match round(&meta, me, &engine, &mut asking).await {
            Ok(()) => {}
            Err(RoundError::Engine(EngineGone)) => return,
            // Nothing is dropped on silence; the next round asks again.
            Err(RoundError::Meta(error)) => {
                tracing::warn!(%error, "meta was not asked what may go");
            }
        }
        host.clock.sleep(every).await;
    }
}

async fn round(
    meta: &MetaClient,
    me: BookieId,
    engine: &EngineHandle,
    asking: &mut Asking,
) -> Result<(), RoundError> {
    // Before meta is asked: what is repaired from here on is not given up by an answer that is older.
    let held = engine.begin_reclaim().await?;
    let questions = asking.questions(&held);
    for page in questions.logs {
        let word = ask_logs(meta, page, &held, asking).await?;
        hand_in(engine, word).await?;
    }
    for page in questions.ledgers {
        let mut word = Reclaim::default();
        match meta.query(Query::Ledgers(page.clone())).await? {
            Answer::Ledgers(records) => asking::ledgers(&page, &records, me, &mut word),
            _ => return Err(MetaError::odd_answer().into()),
        }
        hand_in(engine, word).await?;
    }
    Ok(())
}

async fn ask_logs(
    meta: &MetaClient,
    page: Vec<types::LogId>,
    held: &BTreeSet<LedgerId>,
    asking: &mut Asking,
) -> Result<Reclaim, RoundError> {
    let Answer::Logs(standings) = meta.query(Query::Logs(page.clone())).await? else {
        return Err(MetaError::odd_answer().into());
    };
    let mut word = Reclaim::default();
    for log in asking.logs(&page, &standings, held, &mut word) {
        tracing::warn!(%log, "meta does not know a log that is held here; nothing of it is dropped");
    }
    Ok(word)
}

async fn hand_in(engine: &EngineHandle, word: Reclaim) -> Result<(), EngineGone> {
    if word == Reclaim::default() {
        return Ok(());
    }
    tracing::info!(
        trimmed = word.trimmed.len(),
        deleted = word.deleted.len(),
        given_up = word.given_up.len(),
        "meta lets ledgers go"
    );
    engine.reclaim(word).await
}
