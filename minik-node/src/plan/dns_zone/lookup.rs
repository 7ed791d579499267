//! Questions and answers: which records say what a name stands for, by type.

use std::net::Ipv4Addr;

use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::Reverse;
use super::resolve::{Host, Item, NoSuchName};
use super::{TTL, Zone};

/// Version of the specification that `dns-version.ORIGIN` states, and how long that may be cached.
const SCHEMA: (&str, u32) = ("1.1.0", 28_800);

/// Aliases followed inside the zone before giving up.
const LONGEST_CHAIN: usize = 8;

/// An answer of the zone's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, or `REFUSED` for zone transfers.
    pub code: ResponseCode,
    /// Records that answer.
    pub answers: Vec<Record>,
    /// The SOA when there are none.
    pub authority: Vec<Record>,
    /// Addresses of SRV and NS targets.
    pub additional: Vec<Record>,
    /// Where the last alias leads when it leaves the zone; who can resolves it and appends.
    pub outside: Option<Name>,
}

/// Answers a question; `None` when it is about a name that is not the cluster's, which includes addresses
/// that have no name here. Fails on names that grow too long to be sent.
pub fn lookup(zone: &Zone, name: &Name, kind: RecordType) -> Result<Option<Answer>, ProtoError> {
    if let Some(address) = reversed_address(name) {
        return if kind == RecordType::PTR {
            zone.pointers(name, address)
        } else {
            Ok(None)
        };
    }
    let Some(labels) = zone.labels_of(name) else {
        return Ok(None);
    };
    let answer = match kind {
        RecordType::AXFR | RecordType::IXFR => Answer {
            code: ResponseCode::Refused,
            ..Answer::empty()
        },
        _ if labels.is_empty() => zone.apex(name, kind)?,
        RecordType::TXT if labels == ["dns-version"] => Answer {
            answers: vec![record(name, SCHEMA.1, RData::TXT(TXT::new(vec![SCHEMA.0.to_owned()])))],
            ..Answer::empty()
        },
        _ => match zone.resolve(&labels) {
            Err(NoSuchName) => Answer {
                code: ResponseCode::NXDomain,
                ..Answer::empty()
            },
            Ok(items) => zone.records(name, kind, &items)?,
        },
    };
    Ok(Some(zone.with_soa(answer)?))
}

impl Answer {
    fn empty() -> Self {
        Self {
            code: ResponseCode::NoError,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            outside: None,
        }
    }
}

impl Zone {
    /// The start of authority, in the words of CoreDNS.
    pub fn soa(&self) -> Result<Record, ProtoError> {
        let primary = self.name(&["ns", "dns"])?;
        let soa = SOA::new(
            primary,
            self.name(&["hostmaster"])?,
            self.serial,
            7_200,
            1_800,
            86_400,
            TTL,
        );
        Ok(record(&self.origin, TTL, RData::SOA(soa)))
    }

    fn with_soa(&self, mut answer: Answer) -> Result<Answer, ProtoError> {
        if answer.answers.is_empty() && answer.code != ResponseCode::Refused {
            answer.authority.push(self.soa()?);
        }
        Ok(answer)
    }

    /// A name under the origin.
    fn name<L: AsRef<str>>(&self, labels: &[L]) -> Result<Name, ProtoError> {
        Name::from_labels(labels.iter().map(|label| label.as_ref().as_bytes()))?.append_domain(&self.origin)
    }

    /// The labels before the origin, in lower case; `None` for names outside the zone. Labels that are not
    /// text are in the zone and match nothing.
    fn labels_of(&self, name: &Name) -> Option<Vec<String>> {
        if !self.origin.zone_of(name) {
            return None;
        }
        let own = usize::from(name.num_labels() - self.origin.num_labels());
        Some(
            name.iter()
                .take(own)
                .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
                .collect(),
        )
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Result<Answer, ProtoError> {
        let mut answer = Answer::empty();
        match kind {
            RecordType::SOA => answer.answers.push(self.soa()?),
            RecordType::NS => {
                let server = self.name(&["ns", "dns"])?;
                answer.additional = self.name_server().map(|ip| address(&server, ip)).into_iter().collect();
                answer.answers.push(record(name, TTL, RData::NS(NS(server))));
            }
            _ => {}
        }
        Ok(answer)
    }

    fn records(&self, name: &Name, kind: RecordType, items: &[Item]) -> Result<Answer, ProtoError> {
        match kind {
            RecordType::A | RecordType::AAAA => self.addresses(name, kind, items, &mut Vec::new()),
            RecordType::SRV => self.servers(name, items),
            RecordType::CNAME => {
                let alias = items.first().and_then(|item| match &item.host {
                    Host::Alias(target) => Some(target),
                    Host::Address(_) => None,
                });
                let answers = alias.map(|target| Ok(cname(name, absolute(target)?))).transpose();
                answers.map(|answers: Option<Record>| Answer {
                    answers: answers.into_iter().collect(),
                    ..Answer::empty()
                })
            }
            _ => Ok(Answer::empty()),
        }
    }

    /// Addresses, following aliases for as long as they stay in the zone. An alias that leads to nothing here
    /// is not shown; one that leads outside is, and ends the answer.
    fn addresses(
        &self,
        name: &Name,
        kind: RecordType,
        items: &[Item],
        seen: &mut Vec<Name>,
    ) -> Result<Answer, ProtoError> {
        let mut answer = Answer::empty();
        for item in items {
            match &item.host {
                Host::Address(ip) if kind == RecordType::A => {
                    let record = address(name, *ip);
                    if !answer.answers.contains(&record) {
                        answer.answers.push(record);
                    }
                }
                Host::Address(_) => {}
                Host::Alias(target) => {
                    let target = absolute(target)?;
                    seen.push(name.to_lowercase());
                    if seen.len() >= LONGEST_CHAIN || seen.contains(&target.to_lowercase()) {
                        continue;
                    }
                    let next = match self.labels_of(&target).map(|labels| self.resolve(&labels)) {
                        None => Answer {
                            outside: Some(target.clone()),
                            ..Answer::empty()
                        },
                        Some(Err(NoSuchName)) => continue,
                        Some(Ok(items)) => self.addresses(&target, kind, &items, seen)?,
                    };
                    if next.outside.is_some() || !next.answers.is_empty() {
                        answer.answers.push(cname(name, target));
                        answer.answers.extend(next.answers);
                        answer.outside = next.outside;
                    }
                }
            }
        }
        Ok(answer)
    }

    /// SRV records, each target's address in the additional section. Weights share 100.
    fn servers(&self, name: &Name, items: &[Item]) -> Result<Answer, ProtoError> {
        let hosts = items.iter().filter_map(|item| match item.host {
            Host::Address(ip) => Some((item, ip)),
            Host::Alias(_) => None,
        });
        let hosts: Vec<_> = hosts.collect();
        let weight = u16::try_from(100 / hosts.len().max(1)).unwrap_or(1).max(1);
        let mut answer = Answer::empty();
        for (item, ip) in hosts {
            let Some(port) = item.port else { continue };
            let target = self.name(&item.owner)?;
            let server = record(name, TTL, RData::SRV(SRV::new(0, weight, port, target.clone())));
            if !answer.answers.contains(&server) {
                answer.answers.push(server);
            }
            let extra = address(&target, ip);
            if !answer.additional.contains(&extra) {
                answer.additional.push(extra);
            }
        }
        Ok(answer)
    }

    /// A cluster IP has its Service's name; any other address those it has as an endpoint.
    fn pointers(&self, name: &Name, address: Ipv4Addr) -> Result<Option<Answer>, ProtoError> {
        let Some(names) = self.reverse.get(&address) else {
            return Ok(None);
        };
        let first_only = names.iter().next().is_some_and(Reverse::is_service);
        let mut answer = Answer::empty();
        for reverse in names.iter().take(if first_only { 1 } else { usize::MAX }) {
            let target = match reverse {
                Reverse::Service(service) => self.name(&[&service.name, &service.namespace, "svc"])?,
                Reverse::Endpoint(service, label) => self.name(&[label, &service.name, &service.namespace, "svc"])?,
            };
            answer.answers.push(record(name, TTL, RData::PTR(PTR(target))));
        }
        Ok(Some(answer))
    }
}

fn record(name: &Name, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name.clone(), ttl, data)
}

fn address(name: &Name, address: Ipv4Addr) -> Record {
    record(name, TTL, RData::A(A(address)))
}

fn cname(name: &Name, target: Name) -> Record {
    record(name, TTL, RData::CNAME(CNAME(target)))
}

/// The target of an ExternalName, which is absolute with or without its final dot.
fn absolute(target: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(target)?;
    name.set_fqdn(true);
    Ok(name)
}

/// `2.1.244.10.in-addr.arpa.` as an address.
fn reversed_address(name: &Name) -> Option<Ipv4Addr> {
    let labels: Vec<&str> = name
        .iter()
        .map(|label| std::str::from_utf8(label).ok())
        .collect::<Option<_>>()?;
    match labels.as_slice() {
        [d, c, b, a, in_addr, arpa] if in_addr.eq_ignore_ascii_case("in-addr") && arpa.eq_ignore_ascii_case("arpa") => {
            format!("{a}.{b}.{c}.{d}").parse().ok()
        }
        _ => None,
    }
}
