//! Which master owns which slot.
//!
//! Every node of a Redis Cluster has its own view, and some are out of date: a master that is cut off still claims its slots. If
//! two masters claim a slot, the higher configuration epoch wins, which is the cluster's own rule.

use super::{super::keys::SLOTS, url::Address};

/// Nobody owns the slot.
const NOBODY: u16 = u16::MAX;

/// A master and the slots it owns, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    id: String,
    address: Address,
    epoch: u64,
    /// This is the master's own view.
    is_own: bool,
    slots: Vec<(u16, u16)>,
}

/// The view of one node.
#[derive(Debug, Default)]
pub(super) struct NodeView {
    claims: Vec<Claim>,
    /// The addresses of all nodes, also of replicas: they may be masters next.
    nodes: Vec<Address>,
}

impl NodeView {
    /// Reads the answer to CLUSTER NODES of the node at `asked`. With `by_name` nodes go by their host names, if they have any.
    pub(super) fn read(text: &str, asked: &Address, by_name: bool) -> Self {
        let mut view = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [id, at, flags, _, _, _, epoch, _, slots @ ..] = &fields[..] else { continue };
            let has = |flag: &str| flags.split(',').any(|set| set == flag);
            let (at, names) = at.split_once(',').unwrap_or((at, ""));
            let Some(mut address) = at.split('@').next().and_then(Address::parse) else { continue };
            let name = names.split(',').next().filter(|name| by_name && !name.is_empty());
            if let Some(name) = name {
                name.clone_into(&mut address.host);
            } else if address.host.is_empty() {
                // The node does not know its own address yet.
                asked.host.clone_into(&mut address.host);
            }
            if ["fail", "noaddr", "handshake"].into_iter().any(has) || address.port == 0 {
                continue;
            }
            view.nodes.push(address.clone());
            if has("master") {
                view.claims.push(Claim {
                    id: (*id).to_owned(),
                    address,
                    epoch: epoch.parse().unwrap_or(0),
                    is_own: has("myself"),
                    slots: slots.iter().filter_map(|range| read_range(range)).collect(),
                });
            }
        }
        view
    }
}

/// Reads `5` or `5-9`; a slot that is on its way stands in brackets, and is its owner's still.
fn read_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// A master that owns slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Master {
    pub(in super::super) id: String,
    pub(in super::super) address: Address,
}

/// The owner of each slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct SlotMap {
    pub(in super::super) masters: Vec<Master>,
    /// All nodes that are known.
    pub(super) nodes: Vec<Address>,
    owners: Vec<u16>,
}

impl SlotMap {
    /// Nobody owns anything.
    pub(super) fn empty() -> Self {
        Self { masters: Vec::new(), nodes: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)] }
    }

    /// Merges the views of several nodes.
    pub(super) fn of(views: &[NodeView]) -> Self {
        let mut table = Self::empty();
        let mut claims: Vec<&Claim> = views.iter().flat_map(|view| &view.claims).collect();
        // The claims that win come last, and overwrite the others.
        claims.sort_by_key(|claim| (claim.epoch, claim.is_own));
        let mut owners: Vec<Option<usize>> = vec![None; usize::from(SLOTS)];
        for (index, claim) in claims.iter().enumerate() {
            for (first, last) in &claim.slots {
                owners[usize::from(*first)..=usize::from(*last)].fill(Some(index));
            }
        }
        for (slot, owner) in owners.into_iter().enumerate() {
            if let Some(claim) = owner.map(|index| claims[index]) {
                table.owners[slot] = table.place(claim);
            }
        }
        table.nodes = views.iter().flat_map(|view| view.nodes.iter().cloned()).collect();
        table.nodes.sort_unstable();
        table.nodes.dedup();
        table
    }

    fn place(&mut self, claim: &Claim) -> u16 {
        let index = match self.masters.iter().position(|master| master.address == claim.address) {
            Some(index) => index,
            None => {
                self.masters.push(Master { id: claim.id.clone(), address: claim.address.clone() });
                self.masters.len() - 1
            }
        };
        index as u16
    }

    /// The master that owns a slot.
    pub(in super::super) fn owner(&self, slot: u16) -> Option<&Master> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// Whether every slot has an owner.
    pub(in super::super) fn is_whole(&self) -> bool {
        !self.owners.contains(&NOBODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(asked: u16, text: &str) -> NodeView {
        NodeView::read(text, &Address { host: "h".into(), port: asked }, false)
    }

    #[test]
    fn the_later_epoch_owns_a_slot() {
        let old = view(
            1,
            "aaa :1@11 myself,master - 0 0 1 connected 0-8191 [77->-ccc]\n\
             bbb 127.0.0.1:2@12,name master - 0 0 2 connected 8192-16382 16383\n\
             ccc 127.0.0.1:3@13 slave aaa 0 0 1 connected\n\
             ddd 127.0.0.1:4@14 slave,fail aaa 0 0 1 connected\n\
             garbage",
        );
        let table = SlotMap::of(&[old]);
        assert!(table.is_whole());
        assert_eq!(table.owner(77).unwrap().address.to_string(), "h:1");
        assert_eq!(table.nodes.iter().map(|node| node.port).collect::<Vec<_>>(), [2, 3, 1]);

        let old = view(
            1,
            "aaa 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-8191\n\
             bbb 127.0.0.1:2@12 master - 0 0 2 connected 8192-16383",
        );
        let new = view(
            3,
            "ccc 127.0.0.1:3@13,c.example myself,master - 0 0 3 connected 0-8191\n\
             aaa 127.0.0.1:1@11 master,fail - 0 0 1 connected\n\
             bbb 127.0.0.1:2@12 master - 0 0 2 connected 8192-16383",
        );
        let table = SlotMap::of(&[new, old]);
        assert_eq!(table.owner(77).map(|master| &*master.id), Some("ccc"));
        assert_eq!(table.owner(16_383).map(|master| &*master.id), Some("bbb"));
        assert_eq!(table.masters.len(), 2);
    }

    #[test]
    fn names_are_for_encrypted_connections() {
        let text = "ccc 10.0.0.3:3@13,c.example,shard-id=x myself,master - 0 0 3 connected 0-16383";
        let asked = Address { host: "h".into(), port: 3 };
        let named = SlotMap::of(&[NodeView::read(text, &asked, true)]);
        assert_eq!(named.owner(0).unwrap().address.host, "c.example");
        let plain = SlotMap::of(&[NodeView::read(text, &asked, false)]);
        assert_eq!(plain.owner(0).unwrap().address.host, "10.0.0.3");
        assert!(!SlotMap::of(&[]).is_whole());
    }
}
