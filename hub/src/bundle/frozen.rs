//! What a target's chart leaves to chance, where the target has it frozen: all of it follows from a seed, which is made once for
//! each generation that the target's spec names, and is the same from then on.
//!
//! The seed is sealed, for that target and generation alone. It is never made anew because it cannot be opened: what clusters
//! run would be replaced.

use bellwether_core::TargetId;
use bellwether_render::{Frozen, SEED_BYTES};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroize as _;

use super::error::BundleError;
use crate::Hub;
use crate::pki::seal::{SealError, random};
use crate::process::clock;
use crate::store::frozen_seeds::FrozenSeed;
use crate::store::targets::Target;
use crate::store::{self, StoreError};

/// Of one target. Each is a person's word in its spec; who writes more of them does not go back to the first.
const GENERATIONS_MAX: i64 = 100;

/// `None`: nothing is frozen, or the target is gone.
pub(super) async fn find_or_make(hub: &Hub, target: &Target) -> Result<Option<Frozen>, BundleError> {
    let Some(generation) = target.spec.render.frozen_generation() else { return Ok(None) };
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let known = store::frozen_seeds::find(&mut db, target.id, generation).await?;
    drop(db);
    let seed = match known {
        Some(known) => Some(known),
        None => make(hub, target.id, generation).await?,
    };
    let Some(seed) = seed else { return Ok(None) };
    open(hub, target, generation, &seed).map(Some)
}

/// For whoever writes nothing: what is frozen by a word that is new follows from a seed that nobody has again, and so does what a
/// commit that was not let in makes of it. That could print what it was given. Says whether it is so.
pub(super) async fn find_or_draw(
    hub: &Hub,
    target: &Target,
    is_let_in: bool,
) -> Result<(Option<Frozen>, bool), BundleError> {
    let Some(generation) = target.spec.render.frozen_generation() else { return Ok((None, false)) };
    if is_let_in {
        let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
        let known = store::frozen_seeds::find(&mut db, target.id, generation).await?;
        drop(db);
        if let Some(known) = known {
            return Ok((Some(open(hub, target, generation, &known)?), false));
        }
    }
    let mut bytes = random::<SEED_BYTES>();
    let drawn = Frozen::new(&bytes, &clock::now().to_string());
    bytes.zeroize();
    Ok((Some(drawn), true))
}

fn open(hub: &Hub, target: &Target, generation: &str, seed: &FrozenSeed) -> Result<Frozen, BundleError> {
    let purpose = purpose(target.id, generation);
    let opened = hub.seal.open(&purpose, &seed.sealed)?;
    let bytes: &[u8; SEED_BYTES] = opened.expose_secret().try_into().map_err(|_| SealError::NotSealed { purpose })?;
    Ok(Frozen::new(bytes, &seed.made_at.to_string()))
}

/// The one that is there in the end, of two hubs that make one at once.
async fn make(hub: &Hub, target: TargetId, generation: &str) -> Result<Option<FrozenSeed>, StoreError> {
    let mut bytes = random::<SEED_BYTES>();
    let sealed = hub.seal.seal(&purpose(target, generation), &bytes);
    bytes.zeroize();
    let made = FrozenSeed { sealed, made_at: clock::now() };
    let mut db = store::begin(&hub.pool).await?;
    store::frozen_seeds::insert_first(&mut db, target, generation, &made).await?;
    store::frozen_seeds::delete_older(&mut db, target, generation, GENERATIONS_MAX).await?;
    let there = store::frozen_seeds::find(&mut db, target, generation).await?;
    db.commit().await?;
    Ok(there)
}

fn purpose(target: TargetId, generation: &str) -> String {
    format!("frozen/{target}/{generation}")
}
