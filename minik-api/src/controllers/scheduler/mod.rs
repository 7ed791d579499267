//! The scheduler: gives Pods that have no node one.
//!
//! Reads Pods, nodes, namespaces, claims and volumes from the shared caches into a [`Roster`], which decides for one Pod at
//! a time and counts what it has decided as done, so that a burst is spread rightly without waiting for the watch. Carries
//! decisions out: Bindings, conditions and events, claims for volumes, evictions of less important Pods. Never polls: a
//! Pod that fits nowhere waits for a change that could matter to it.
//!
//! ```text
//! selector, resources, facts   what a Pod asks     board    what the nodes have left
//! filter, volumes, refusal     who will not do, and in what words     score   who is best     preempt   who would leave
//! decide  one Pod, one answer     roster  whose turn it is     carry  what the answer costs in writes
//! ```

mod board;
mod carry;
mod decide;
mod facts;
mod filter;
mod preempt;
mod refusal;
mod resources;
mod roster;
mod score;
pub mod selector;
#[cfg(test)]
mod testing;
mod view;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use super::cache::Key;
use super::context::Context;
use super::pod::node_name;
use carry::{Carried, Carrier};
pub use decide::Decision;
use facts::Facts;
pub use facts::demand;
pub use filter::{is_about, tolerates};
use refusal::Event;
pub use roster::Roster;
pub use volumes::Volumes;

/// Writes in flight at a time.
const IN_FLIGHT: usize = 64;

/// What has changed since the roster last looked.
#[derive(Default)]
struct News {
    pods: BTreeSet<Key>,
    nodes: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    volumes: bool,
}

/// The scheduler; see the module's documentation.
pub struct Scheduler {
    context: Arc<Context>,
    carrier: Carrier,
    roster: Mutex<Roster>,
    news: Arc<Mutex<News>>,
    /// What Pods that fit nowhere have been told last.
    told: Mutex<BTreeMap<Key, String>>,
    wake: Arc<Notify>,
}

impl Scheduler {
    /// A scheduler that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let news = Arc::<Mutex<News>>::default();
        let wake = Arc::new(Notify::new());
        /// Notes what a change of one cache means, and wakes the scheduler.
        macro_rules! on_change {
            ($cache:ident, |$change:ident, $news:ident| $note:expr) => {{
                let (news, wake) = (news.clone(), wake.clone());
                context.$cache.on_change(move |$change| {
                    let $news = &mut *lock(&news);
                    $note;
                    wake.notify_one();
                });
            }};
        }
        on_change!(pods, |change, news| news
            .pods
            .extend(change.latest().map(|pod| Key::of(&**pod))));
        on_change!(nodes, |change, news| news
            .nodes
            .extend(change.latest().map(|node| Key::of(&**node).name)));
        on_change!(namespaces, |change, news| {
            news.namespaces
                .extend(change.latest().map(|namespace| Key::of(&**namespace).name));
        });
        on_change!(volumes, |_change, news| news.volumes = true);
        on_change!(storage_classes, |_change, news| news.volumes = true);
        on_change!(claims, |_change, news| news.volumes = true);
        Self {
            carrier: Carrier::new(context.clone()),
            context,
            roster: Mutex::default(),
            news,
            told: Mutex::default(),
            wake,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.pods.synced().await;
        self.context.nodes.synced().await;
        self.context.namespaces.synced().await;
        self.context.claims.synced().await;
        self.context.volumes.synced().await;
        self.context.storage_classes.synced().await;
        self.begin();
        let mut quick = FuturesUnordered::new();
        // Those that wait for a volume keep nobody else from a node.
        let mut patient = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = quick.next() => {}
                Some(()) = patient.next() => {}
                () = self.wake.notified(), if quick.len() < IN_FLIGHT => {
                    self.learn();
                    for (facts, decision) in self.decide(IN_FLIGHT - quick.len()) {
                        let waits = matches!(&decision, Decision::Bind { claims, .. } if !claims.is_empty());
                        let work = self.work_on(facts, decision);
                        if waits {
                            patient.push(work);
                        } else {
                            quick.push(work);
                        }
                    }
                }
            }
        }
    }

    async fn work_on(&self, facts: Arc<Facts>, decision: Decision) {
        let carried = self.carrier.carry_out(&facts, decision).await;
        match carried {
            Carried::Out => return,
            Carried::Gone => return lock(&self.roster).take_back(&facts.key),
            Carried::Stale => {}
            Carried::Failed => drop(lock(&self.told).remove(&facts.key)),
        }
        // Made anew, from what the cache says of the Pod.
        let mut roster = lock(&self.roster);
        roster.take_back(&facts.key);
        roster.recall(&facts.key);
        drop(roster);
        lock(&self.news).pods.insert(facts.key.clone());
        self.wake.notify_one();
    }

    /// Starts from what the caches hold.
    fn begin(&self) {
        *lock(&self.roster) = Roster::default();
        let mut news = lock(&self.news);
        news.pods
            .extend(self.context.pods.snapshot().iter().map(|pod| Key::of(&**pod)));
        news.nodes
            .extend(self.context.nodes.snapshot().iter().map(|node| Key::of(&**node).name));
        let namespaces = self.context.namespaces.snapshot();
        news.namespaces
            .extend(namespaces.iter().map(|namespace| Key::of(&**namespace).name));
        self.wake.notify_one();
    }

    /// Tells the roster what is new.
    fn learn(&self) {
        let news = std::mem::take(&mut *lock(&self.news));
        let mut roster = lock(&self.roster);
        for name in news.namespaces {
            let namespace = self.context.namespaces.get(&Key::new("", &name));
            roster.see_namespace(
                &name,
                namespace.map(|found| found.metadata.labels.clone().unwrap_or_default()),
            );
        }
        for name in news.nodes {
            roster.see_node(&name, self.context.nodes.get(&Key::new("", &name)).as_deref());
        }
        for key in news.pods {
            let pod = self.context.pods.get(&key);
            if pod.as_ref().is_none_or(|pod| node_name(pod).is_some()) {
                lock(&self.told).remove(&key);
            }
            roster.see_pod(&key, pod.as_deref());
        }
        if news.volumes {
            roster.notice(Event::Volume);
        }
    }

    /// Up to `most` decisions that are to be carried out.
    fn decide(&self, most: usize) -> Vec<(Arc<Facts>, Decision)> {
        let volumes = Volumes {
            claims: self.context.claims.snapshot(),
            volumes: self.context.volumes.snapshot(),
            classes: self.context.storage_classes.snapshot(),
        };
        let budgets: Vec<_> = self.context.budgets.snapshot().iter().cloned().collect();
        let mut roster = lock(&self.roster);
        let mut decisions = Vec::new();
        while decisions.len() < most
            && let Some((facts, decision)) = roster.next(&volumes, &budgets)
        {
            if self.is_news(&facts.key, &decision) {
                decisions.push((facts, decision));
            }
        }
        if !roster.is_idle() {
            self.wake.notify_one();
        }
        decisions
    }

    /// A Pod that is known to fit nowhere, for the same reasons, needs no second telling.
    fn is_news(&self, key: &Key, decision: &Decision) -> bool {
        let Decision::Refuse {
            message, room: None, ..
        } = decision
        else {
            return true;
        };
        let again = lock(&self.told).insert(key.clone(), message.clone()).as_ref() == Some(message);
        let pod = self.context.pods.get(key);
        !again && !pod.is_some_and(|pod| carry::is_noted(&pod, message))
    }
}

/// A panic while a lock is held ends the task, which starts again from the caches.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
