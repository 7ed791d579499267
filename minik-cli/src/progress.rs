//! What a long command says while it works, on standard error: a spinner and ticks on a terminal, plain lines
//! elsewhere. Standard output stays for data.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells of steps, one at a time.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

/// A step under way; dropped unfinished, it leaves no line, for the error that follows says it better.
#[derive(Debug)]
pub struct Step<'a> {
    progress: &'a Progress,
    what: String,
    since: Instant,
}

impl Progress {
    /// For this process's standard error.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is well-formed");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar }
    }

    /// Starts a step.
    pub fn step(&self, what: &str) -> Step<'_> {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(80));
        }
        Step {
            progress: self,
            what: what.to_owned(),
            since: Instant::now(),
        }
    }

    /// Prints a line above the spinner.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Step<'_> {
    /// Ends the step well.
    pub fn done(self) {
        let text = format!("✓ {} {}", self.what, milliseconds(self.since.elapsed()));
        self.progress.line(&text);
    }

    /// Says more closely what is going on.
    pub fn detail(&self, detail: &str) {
        if let Some(bar) = &self.progress.bar {
            bar.set_message(format!("{}: {detail}", self.what));
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.progress.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }
}

fn milliseconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
