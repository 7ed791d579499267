//! Which events are written, in what words and with what count: client-go's `EventCorrelator` with its defaults, for the
//! events of any number of components.
//!
//! Pure: time comes in, nothing is written. Controllers and agents share it, since a repetition must be counted alike whoever
//! tells of it.
//!
//! Ten messages of one reason about one object within ten minutes are told as one from the tenth on; the same message
//! is counted; what is beyond an object's budget is counted and not written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// Objects, and events, that are remembered; beyond that everything is forgotten, and told anew.
const REMEMBERED: usize = 1024;
/// Different messages of one reason that are told as one from then on, if each follows within [`SIMILAR_WITHIN`].
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// Events about one object that are written at once, and how long each after them waits: the spam filter.
const BURST: f64 = 25.0;
const REFILL: SignedDuration = SignedDuration::from_secs(300);

/// One thing that happened to an object.
#[derive(Debug, Clone, Copy)]
pub struct Happening<'a> {
    /// Who tells of it.
    pub component: &'a str,
    /// UID of the object.
    pub uid: &'a str,
    /// The part of it that is meant, empty for all.
    pub field_path: &'a str,
    /// Whether it is a warning.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'a str,
    /// For people.
    pub message: &'a str,
    /// When.
    pub at: Timestamp,
}

/// What makes two events one: all of them but for the message that [`SIMILAR`] ones have lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    group: Group,
    /// The part and the message.
    told: Option<(String, String)>,
}

type Group = (Source, bool, String);
/// Component and object.
type Source = (String, String);

/// An event to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// For [`Correlator::told`].
    pub identity: Identity,
    /// Its message.
    pub message: String,
    /// How often it happened.
    pub count: i32,
    /// When it happened first.
    pub first: Timestamp,
    /// The object that tells of it already.
    pub name: Option<String>,
}

#[derive(Debug)]
struct Known {
    name: Option<String>,
    count: i32,
    first: Timestamp,
}

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<String>,
    last: Timestamp,
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Correlator {
    similar: BTreeMap<Group, Similar>,
    known: BTreeMap<Identity, Known>,
    buckets: BTreeMap<Source, Bucket>,
}

impl Correlator {
    /// Takes note of what happened; `None` when it is not to be written.
    pub fn observe(&mut self, happening: Happening<'_>) -> Option<Telling> {
        let Happening { message, at, .. } = happening;
        let source = (happening.component.to_owned(), happening.uid.to_owned());
        let group = (source.clone(), happening.warning, happening.reason.to_owned());
        let combined = self.is_one_of_many(&group, message, at);
        let identity = Identity {
            group,
            told: (!combined).then(|| (happening.field_path.to_owned(), message.to_owned())),
        };
        let known = bounded(&mut self.known).entry(identity.clone()).or_insert(Known {
            name: None,
            count: 0,
            first: at,
        });
        known.count = known.count.saturating_add(1);
        let bucket = bounded(&mut self.buckets).entry(source).or_insert(Bucket::full(at));
        bucket.take(at).then(|| Telling {
            identity,
            message: if combined {
                format!("(combined from similar events): {message}")
            } else {
                message.to_owned()
            },
            count: known.count,
            first: known.first,
            name: known.name.clone(),
        })
    }

    /// An event was written under a name; its repetitions go there.
    pub fn told(&mut self, identity: &Identity, name: String) {
        if let Some(known) = self.known.get_mut(identity) {
            known.name = Some(name);
        }
    }

    fn is_one_of_many(&mut self, group: &Group, message: &str, at: Timestamp) -> bool {
        let similar = bounded(&mut self.similar).entry(group.clone()).or_insert(Similar {
            messages: BTreeSet::new(),
            last: at,
        });
        if at.duration_since(similar.last) > SIMILAR_WITHIN {
            similar.messages.clear();
        }
        similar.last = at;
        similar.messages.insert(message.to_owned());
        let many = similar.messages.len() >= SIMILAR;
        if many {
            similar.messages.pop_first();
        }
        many
    }
}

fn bounded<K: Ord, V>(map: &mut BTreeMap<K, V>) -> &mut BTreeMap<K, V> {
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map
}

/// How many more events an object may have: a token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn full(at: Timestamp) -> Self {
        Self { tokens: BURST, at }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        // Nobody loses anything when the clock is set back.
        let gained = now.duration_since(self.at).as_secs_f64().max(0.0) / REFILL.as_secs_f64();
        self.tokens = (self.tokens + gained).min(BURST);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn tell(correlator: &mut Correlator, message: &str, seconds: i64) -> Option<(String, i32, Option<String>)> {
        let telling = correlator.observe(Happening {
            uid: "u",
            component: "job-controller",
            field_path: "spec.containers{a}",
            warning: true,
            reason: "FailedCreate",
            message,
            at: at(seconds),
        })?;
        let name = format!("e{seconds}");
        if telling.name.is_none() {
            correlator.told(&telling.identity, name);
        }
        Some((telling.message, telling.count, telling.name))
    }

    #[test]
    fn the_same_is_counted() {
        let mut correlator = Correlator::default();
        assert_eq!(tell(&mut correlator, "no", 0), Some(("no".into(), 1, None)));
        assert_eq!(
            tell(&mut correlator, "no", 9),
            Some(("no".into(), 2, Some("e0".into())))
        );
    }

    #[test]
    fn the_tenth_of_a_kind_within_ten_minutes_stands_for_all_after_it() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            let message = format!("no {n}");
            assert_eq!(tell(&mut correlator, &message, n), Some((message, 1, None)));
        }
        let combined = |message: &str| format!("(combined from similar events): {message}");
        assert_eq!(tell(&mut correlator, "no 9", 9), Some((combined("no 9"), 1, None)));
        let told = Some("e9".to_owned());
        assert_eq!(tell(&mut correlator, "no 10", 600), Some((combined("no 10"), 2, told)));
        assert_eq!(tell(&mut correlator, "no 11", 1201), Some(("no 11".into(), 1, None)));
    }

    #[test]
    fn an_object_has_a_burst_of_events_and_then_one_in_five_minutes() {
        let mut correlator = Correlator::default();
        let told = (0..100).filter(|_| tell(&mut correlator, "no", 1).is_some()).count();
        assert_eq!(told, 25);
        assert_eq!(tell(&mut correlator, "no", 200), None);
        assert_eq!(
            tell(&mut correlator, "no", 302),
            Some(("no".into(), 102, Some("e1".into()))),
            "what was not told was counted"
        );
        assert_eq!(tell(&mut correlator, "no", 303), None);
    }
}
