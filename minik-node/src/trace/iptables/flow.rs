//! From hook to hook, in netfilter's order, with routing between them and translation where the `nat` table
//! asks for it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::super::host::Way;
use super::super::{AddressKind, Host, Origin, Outcome, Packet, Path, Probability, State, Tracking, Verdict};
use super::TraceError;
use super::branch::Branch;
use super::rule::Table;
use super::walk::{End, Walk};

const LOOPBACK: &str = "lo";

/// Everything that does not change on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow<'a> {
    pub tables: &'a [Table],
    pub host: &'a Host,
    pub now: Duration,
}

/// A hook with the tables that are called there, in order.
struct Hook {
    name: &'static str,
    tables: &'static [&'static str],
}

const PREROUTING: Hook = Hook {
    name: "PREROUTING",
    tables: &["raw", "mangle", "nat"],
};
const INPUT: Hook = Hook {
    name: "INPUT",
    tables: &["mangle", "filter", "security", "nat"],
};
const FORWARD: Hook = Hook {
    name: "FORWARD",
    tables: &["mangle", "filter", "security"],
};
const OUTPUT: Hook = Hook {
    name: "OUTPUT",
    tables: &["raw", "mangle", "nat", "filter", "security"],
};
const POSTROUTING: Hook = Hook {
    name: "POSTROUTING",
    tables: &["mangle", "nat"],
};

/// A packet on its way, or at its end.
enum Fate {
    Goes(Box<Branch>),
    Ended(Outcome),
}

type Fates = Result<Vec<Fate>, TraceError>;

impl Flow<'_> {
    pub fn run(&self, state: &State, origin: &Origin, packet: Packet) -> Result<Vec<Outcome>, TraceError> {
        let branch = Branch {
            in_link: None,
            out_link: None,
            original: None,
            source_settled: packet.tracking != Tracking::New,
            destination_settled: packet.tracking != Tracking::New,
            snat: false,
            dnat: false,
            probability: Probability::one(),
            path: Path::default(),
            state: state.clone(),
            packet,
        };
        let fates = match origin {
            Origin::Link(link) => self.arrive(Branch {
                in_link: Some(link.as_str().into()),
                ..branch
            }),
            Origin::Local => self.send(branch),
        }?;
        let ended = fates.into_iter().map(|fate| match fate {
            Fate::Ended(outcome) => outcome,
            Fate::Goes(branch) => branch.ends(Verdict::Delivered),
        });
        Ok(ended.collect())
    }

    /// From a link.
    fn arrive(&self, branch: Branch) -> Fates {
        let routed = then(self.hook(&PREROUTING, branch)?, |branch| self.route_in(branch))?;
        then(routed, |branch| match &branch.out_link {
            None => self.hook(&INPUT, branch),
            Some(_) => {
                let fates = self.hook(&FORWARD, branch)?;
                then(fates, |branch| self.leave(branch))
            }
        })
    }

    /// Here, or on by a link.
    fn route_in(&self, mut branch: Branch) -> Fates {
        match self.host.kind(branch.packet.destination) {
            AddressKind::Local | AddressKind::Broadcast | AddressKind::Multicast => {
                Ok(vec![Fate::Goes(Box::new(branch))])
            }
            AddressKind::Unspecified | AddressKind::Unreachable => {
                Ok(vec![Fate::Ended(branch.ends(Verdict::Unroutable))])
            }
            AddressKind::Unicast => {
                branch.out_link = self.way(&branch).map(|way| way.link.into());
                Ok(vec![Fate::Goes(Box::new(branch))])
            }
        }
    }

    /// From a process on the node, which is routed before rules see it, and again when they have turned it.
    fn send(&self, mut branch: Branch) -> Fates {
        let Some(way) = self.way(&branch) else {
            return Ok(vec![Fate::Ended(branch.ends(Verdict::Unroutable))]);
        };
        let (link, source) = (way.link.into(), way.source);
        branch.out_link = Some(link);
        if branch.packet.source.is_unspecified() {
            let destination = branch.packet.destination;
            branch.packet.source = source.ok_or(TraceError::NoSource(destination))?;
        }
        let fates = self.hook(&OUTPUT, branch)?;
        let fates = then(fates, |mut branch| match self.way(&branch).map(|way| way.link.into()) {
            None => Ok(vec![Fate::Ended(branch.ends(Verdict::Unroutable))]),
            link => {
                branch.out_link = link;
                Ok(vec![Fate::Goes(Box::new(branch))])
            }
        })?;
        then(fates, |branch| self.leave(branch))
    }

    /// Past POSTROUTING and out; what leaves by loopback comes in again.
    fn leave(&self, branch: Branch) -> Fates {
        then(self.hook(&POSTROUTING, branch)?, |mut branch| {
            if branch.out_link.as_deref() == Some(LOOPBACK) {
                branch.in_link = branch.out_link.take();
                return self.arrive(branch);
            }
            let gateway = self.way(&branch).and_then(|way| way.gateway);
            let link = branch.out_link.as_deref().unwrap_or_default().to_owned();
            Ok(vec![Fate::Ended(branch.ends(Verdict::Forwarded { link, gateway }))])
        })
    }

    fn way(&self, branch: &Branch) -> Option<Way<'_>> {
        self.host.way(branch.packet.destination)
    }

    /// One hook: the chains of that name, table by table.
    fn hook(&self, hook: &Hook, branch: Branch) -> Fates {
        let mut fates = vec![Fate::Goes(Box::new(branch))];
        for name in hook.tables {
            fates = then(fates, |mut branch| {
                if *name != "raw" && branch.original.is_none() {
                    branch.original = Some(branch.packet.clone());
                }
                self.table(hook.name, name, branch)
            })?;
        }
        Ok(fates)
    }

    fn table(&self, hook: &'static str, name: &str, mut branch: Branch) -> Fates {
        let turns_source = matches!(hook, "INPUT" | "POSTROUTING");
        if name == "nat" {
            let settled = if turns_source {
                &mut branch.source_settled
            } else {
                &mut branch.destination_settled
            };
            if std::mem::replace(settled, true) {
                return Ok(vec![Fate::Goes(Box::new(branch))]);
            }
        }
        let table = self.tables.iter().find(|table| &*table.name == name);
        let Some((table, chain)) = table.and_then(|table| Some((table, table.chain(hook)?))) else {
            return Ok(vec![Fate::Goes(Box::new(branch))]);
        };
        let walk = Walk {
            table,
            hook,
            host: self.host,
            now: self.now,
        };
        let ends = walk.run(chain, branch)?;
        Ok(ends.into_iter().map(|(branch, end)| self.end(branch, end)).collect())
    }

    fn end(&self, mut branch: Branch, end: End) -> Fate {
        match end {
            End::Accept => {}
            End::Drop => return Fate::Ended(branch.ends(Verdict::Dropped)),
            End::Reject(with) => return Fate::Ended(branch.ends(Verdict::Rejected { with })),
            End::Destination(address, port) => branch.turn_destination(address, port),
            End::Redirect(port) => {
                let here = match &branch.in_link {
                    Some(link) => self.host.first_address(link),
                    None => Some(Ipv4Addr::LOCALHOST),
                };
                if here.is_none() {
                    return Fate::Ended(branch.ends(Verdict::Dropped));
                }
                branch.turn_destination(here, port);
            }
            End::Source(address, port) => branch.turn_source(address, port),
            End::Masquerade(port) => {
                let next_hop = self.way(&branch).and_then(|way| way.gateway);
                let next_hop = next_hop.unwrap_or(branch.packet.destination);
                let link: Option<Arc<str>> = branch.out_link.clone();
                let source = link.and_then(|link| self.host.source_for(&link, next_hop));
                if source.is_none() {
                    return Fate::Ended(branch.ends(Verdict::Dropped));
                }
                branch.turn_source(source, port);
            }
        }
        Fate::Goes(Box::new(branch))
    }
}

/// Goes on with what has not ended.
fn then(fates: Vec<Fate>, mut next: impl FnMut(Branch) -> Fates) -> Fates {
    let mut all = Vec::with_capacity(fates.len());
    for fate in fates {
        match fate {
            Fate::Goes(branch) => all.extend(next(*branch)?),
            ended @ Fate::Ended(_) => all.push(ended),
        }
    }
    Ok(all)
}
