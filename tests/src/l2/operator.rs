//! The operator: drains nodes and takes that back, as `ledgerline cluster drain` and `undrain` do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ledgerline_client::{Admin, Error, Reason, api};
use tokio::time::sleep;

use super::load::LOOK;
use super::machine::Role;

/// Who tells the cluster which nodes are to be empty.
#[derive(Default)]
pub(super) struct Operator {
    nodes: RefCell<Vec<Rc<Node>>>,
}

/// A node that was to be drained at some time.
struct Node {
    name: String,
    role: Role,
    wanted: Cell<bool>,
    /// What the cluster has confirmed; none while a call's outcome is not known.
    confirmed: Cell<Option<bool>>,
}

impl Operator {
    /// Wants a node to be drained, or not to be.
    pub(super) fn want(&self, name: &str, role: Role, draining: bool) {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(node) = nodes.iter().find(|node| node.name == name) {
            node.wanted.set(draining);
        } else if draining {
            nodes.push(Rc::new(Node {
                name: name.to_owned(),
                role,
                wanted: Cell::new(true),
                confirmed: Cell::new(Some(false)),
            }));
        }
    }

    /// Wants every bookie back.
    pub(super) fn take_bookies_back(&self) {
        let nodes = self.nodes.borrow();
        for node in nodes.iter().filter(|node| node.role == Role::Bookie) {
            node.wanted.set(false);
        }
    }

    /// Tells the cluster what is wanted, for ever.
    pub(super) async fn work(self: Rc<Self>, admin: Admin) {
        loop {
            let nodes = self.nodes.borrow().clone();
            for node in nodes {
                let wanted = node.wanted.get();
                if node.confirmed.replace(None) == Some(wanted) {
                    node.confirmed.set(Some(wanted));
                } else {
                    tell(&admin, &node, wanted).await;
                }
            }
            sleep(LOOK).await;
        }
    }
}

/// Makes the call once.
async fn tell(admin: &Admin, node: &Node, draining: bool) {
    let role = match node.role {
        Role::Bookie => api::NodeRole::Bookie,
        Role::Serving | Role::Meta => api::NodeRole::Serving,
    };
    let told = admin.drain_node(&node.name, Some(role), draining).await;
    let is_refused = |error: &Error| error.reason() == Reason::BadField;
    let name = &node.name;
    match told {
        Ok(()) if !draining => tracing::info!(%name, "drain taken back"),
        Ok(()) if node.role == Role::Bookie => tracing::info!(%name, "bookie drained"),
        Ok(()) => tracing::info!(%name, "serving node drained"),
        // Too few would be left. An earlier try may have been granted, though its answer was lost.
        Err(error) if is_refused(&error) && draining => {
            tracing::info!(%name, %error, "drain refused");
            node.wanted.set(false);
            return;
        }
        // It was never there.
        Err(error) if is_refused(&error) => {}
        Err(_) => return,
    }
    node.confirmed.set(Some(draining));
}
