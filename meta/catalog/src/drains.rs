//! Serving nodes as operators see them, and which of them are drained.

use types::cluster::{NodeRole, ServingNode, SessionState};
use types::command::{Change, Reply};
use types::{NodeName, Problem};

use crate::answer::read;
use crate::codec::key_prefix;
use crate::plan::{Done, Drafting, Halt};
use crate::{Key, KeyRange, NodeRecord, Record};

/// Says whether a serving node's shards are to move to others. The word belongs to the node's name.
///
/// Somebody must be left to take them: another node that is live and not drained. That it stays so is not for meta to
/// know; a node that is the last one alive serves all the same.
pub(crate) fn drain(d: &mut Drafting<'_>, name: &NodeName, draining: bool) -> Result<Done, Halt> {
    let key = Key::Node(NodeRole::Serving, name.clone());
    let Some((node, _)) = d.node(&key)? else {
        let message = format!("no serving node has this name name={name}");
        return Err(Problem::bad_field("node", message).into());
    };
    if node.is_drained == draining {
        return Ok(Done::Answer(Reply::Done));
    }
    if draining {
        check_others(d, name)?;
    }
    let node = NodeRecord {
        is_drained: draining,
        ..node.clone()
    };
    d.tell(Change::Session(node.session));
    d.put(key, Record::Node(node));
    Ok(Done::write(Reply::Done))
}

fn check_others(d: &mut Drafting<'_>, name: &NodeName) -> Result<(), Halt> {
    let nodes = serving_nodes(d)?;
    let live = |node: &&ServingNode| node.session.state == SessionState::Live;
    let takes = |node: &&ServingNode| node.takes_shards() && node.session.name != *name;
    if nodes.iter().any(|node| takes(&node)) {
        return Ok(());
    }
    let message = format!(
        "no serving node would be left to take its topics: start another one, or take another drain back name={name} \
         live={} drained={}",
        nodes.iter().filter(live).count(),
        nodes.iter().filter(|node| node.is_drained).count()
    );
    Err(Problem::bad_field("node", message).into())
}

/// The serving nodes in order of name: those whose newest session has not ended, and those that are drained.
pub(crate) fn serving_nodes(d: &mut Drafting<'_>) -> Result<Vec<ServingNode>, Halt> {
    let any = "any".parse().expect("a plain word is a node's name");
    let prefix = key_prefix(&Key::Node(NodeRole::Serving, any));
    let all = read(d.snapshot(), KeyRange::prefix(prefix, usize::MAX))?;
    let keys = all.iter().map(|(key, _)| key);
    let keys: Vec<&Key> = keys
        .filter(|key| matches!(key, Key::Node(NodeRole::Serving, _)))
        .collect();
    d.want(keys.iter().copied().cloned())?;
    let mut newest = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some((node, _)) = d.node(key)? {
            newest.push((node.session, node.is_drained));
        }
    }
    d.want(newest.iter().map(|(session, _)| Key::Session(*session)))?;
    let mut found = Vec::with_capacity(newest.len());
    for (session, is_drained) in newest {
        let (session, _) = crate::nodes::session(d, session)?;
        if session.state != SessionState::Ended || is_drained {
            found.push(ServingNode {
                session: session.clone(),
                is_drained,
            });
        }
    }
    Ok(found)
}
