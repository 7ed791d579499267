//! The loop on tokio's paused clock: time stands still until everybody waits, so every assertion is exact.

use std::sync::Mutex;

use super::*;

const TIMING: Timing = Timing {
    resync: Duration::from_secs(30),
    retry_min: Duration::from_millis(100),
    retry_max: Duration::from_millis(500),
};

/// What each pass was given and when, in milliseconds since the start.
type Log = Arc<Mutex<Vec<(u64, u32, Pass)>>>;

struct Recorder {
    start: Instant,
    log: Log,
    /// How many passes fail before the first that does not.
    failures: u32,
    /// How long a pass takes.
    takes: Duration,
}

impl Reconciler for Recorder {
    type Desired = u32;

    fn name(&self) -> &'static str {
        "recorder"
    }

    async fn reconcile(&mut self, desired: Arc<u32>, pass: Pass) -> Outcome {
        let at = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.log.lock().unwrap().push((at, *desired, pass));
        tokio::time::sleep(self.takes).await;
        if self.failures == 0 {
            return Outcome::Synced;
        }
        self.failures -= 1;
        Outcome::Failed("no".to_owned())
    }
}

struct Bench {
    desired: watch::Sender<Option<Arc<u32>>>,
    status: watch::Receiver<Status>,
    log: Log,
    shutdown: CancellationToken,
}

impl Bench {
    fn start(initial: Option<u32>, failures: u32, takes: Duration) -> Self {
        let (desired, receiver) = watch::channel(initial.map(Arc::new));
        let log = Log::default();
        let shutdown = CancellationToken::new();
        let recorder = Recorder {
            start: Instant::now(),
            log: Arc::clone(&log),
            failures,
            takes,
        };
        let status = spawn(recorder, receiver, TIMING, shutdown.clone());
        Self {
            desired,
            status,
            log,
            shutdown,
        }
    }

    fn log(&self) -> Vec<(u64, u32, Pass)> {
        self.log.lock().unwrap().clone()
    }

    fn want(&self, desired: u32) {
        self.desired.send_replace(Some(Arc::new(desired)));
    }
}

async fn pass_time(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn first_pass_is_full_and_changes_are_not() {
    let bench = Bench::start(Some(1), 0, Duration::ZERO);
    pass_time(10).await;
    bench.want(2);
    pass_time(10).await;
    assert_eq!(bench.log(), [(0, 1, Pass::Full), (10, 2, Pass::Changed)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_the_caches_have_synced() {
    let bench = Bench::start(None, 0, Duration::ZERO);
    pass_time(100_000).await;
    assert_eq!(bench.log(), []);
    assert_eq!(
        *bench.status.borrow(),
        Status {
            passes: 0,
            outcome: None
        }
    );
    bench.want(7);
    pass_time(1).await;
    assert_eq!(bench.log(), [(100_000, 7, Pass::Full)]);
}

#[tokio::test(start_paused = true)]
async fn changes_during_a_pass_are_one_change_to_the_newest() {
    let bench = Bench::start(Some(1), 0, Duration::from_millis(50));
    pass_time(10).await;
    bench.want(2);
    bench.want(3);
    pass_time(10).await;
    bench.want(4);
    pass_time(200).await;
    assert_eq!(bench.log(), [(0, 1, Pass::Full), (50, 4, Pass::Changed)]);
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_to_its_bound_and_starts_anew() {
    let bench = Bench::start(Some(1), 5, Duration::ZERO);
    pass_time(1_900).await;
    let times: Vec<u64> = bench.log().iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [0, 100, 300, 700, 1_200, 1_700]);
    assert!(bench.log().iter().all(|(.., pass)| *pass == Pass::Full));
    assert_eq!(
        *bench.status.borrow(),
        Status {
            passes: 6,
            outcome: Some(Outcome::Synced)
        }
    );
    bench.want(2);
    pass_time(1).await;
    assert_eq!(bench.log()[6], (1_900, 2, Pass::Changed));
}

#[tokio::test(start_paused = true)]
async fn a_change_does_not_wait_for_the_back_off_and_observes() {
    let bench = Bench::start(Some(1), 3, Duration::ZERO);
    pass_time(350).await;
    bench.want(2);
    pass_time(1_000).await;
    assert_eq!(bench.log()[2..], [(300, 1, Pass::Full), (350, 2, Pass::Full)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_pass_comes_at_least_every_resync_even_under_constant_change() {
    let bench = Bench::start(Some(0), 0, Duration::ZERO);
    for n in 1..=70 {
        pass_time(1_000).await;
        bench.want(n);
    }
    pass_time(1).await;
    let full: Vec<u64> = bench
        .log()
        .iter()
        .filter(|(.., pass)| *pass == Pass::Full)
        .map(|(at, ..)| *at)
        .collect();
    assert_eq!(full, [0, 30_000, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn resync_needs_no_change_and_no_living_sender() {
    let bench = Bench::start(Some(1), 0, Duration::ZERO);
    pass_time(1).await;
    let Bench { desired, log, .. } = bench;
    drop(desired);
    pass_time(60_000).await;
    let full: Vec<u64> = log
        .lock()
        .unwrap()
        .iter()
        .filter(|(.., p)| *p == Pass::Full)
        .map(|(at, ..)| *at)
        .collect();
    assert_eq!(full, [0, 30_000, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_the_pass_end_and_then_reports_no_more() {
    let mut bench = Bench::start(Some(1), 0, Duration::from_millis(50));
    pass_time(10).await;
    bench.want(2);
    bench.shutdown.cancel();
    pass_time(200).await;
    assert_eq!(bench.log(), [(0, 1, Pass::Full)]);
    assert_eq!(bench.status.borrow_and_update().passes, 1);
    assert!(bench.status.changed().await.is_err(), "the loop has ended");
}
