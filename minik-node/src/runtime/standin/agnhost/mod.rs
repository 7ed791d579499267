//! agnhost, the program of Kubernetes' own network tests and examples: its servers and small tools, by the flags,
//! paths, texts and exit codes of `test/images/agnhost` in Kubernetes' repository.
//!
//! What the real one does beyond that (SCTP, TLS, uploads, webhooks …) is refused by name.

mod connect;
mod dial;
mod files;
mod liveness;
mod netexec;
mod porter;
mod query;
mod resolver;
mod serve_hostname;
mod shell;
mod udp;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::SignalKind;

use super::grpc_health::{self, Serving};
use super::{StandInError, asked_to_stop, listen, log, not_found, say, serve, serve_until_asked};

#[derive(Debug, Parser)]
#[command(
    name = "agnhost",
    about = "minik's stand-in for agnhost",
    disable_help_subcommand = true
)]
struct Agnhost {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands that are here.
#[derive(Debug, Subcommand)]
enum Command {
    /// Tries a TCP or UDP connection, and says in a word what came of it
    Connect(connect::Connect),
    /// Prints the nameservers of /etc/resolv.conf
    DnsServerList,
    /// Prints the search domains of /etc/resolv.conf
    DnsSuffix,
    /// Prints its arguments
    EntrypointTester {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Prints /etc/hosts
    EtcHosts,
    /// Serves gRPC's health protocol, and HTTP to change what it says
    GrpcHealthChecking(GrpcHealth),
    /// Serves a /healthz that fails after ten seconds
    Liveness,
    /// Serves HTTP and UDP that tell of names and addresses, dial others and run commands
    Netexec(netexec::Netexec),
    /// Waits for a signal
    Pause {
        /// Seconds between the signal and the end
        #[arg(long, default_value_t = 0)]
        delay_shutdown: u64,
    },
    /// Serves the values of environment variables SERVE_PORT_n, SERVE_TCP_PORT_n and SERVE_UDP_PORT_n on those ports
    Porter {
        /// Wraps values in JSON, with the request's method
        #[arg(long)]
        json_response: bool,
    },
    /// Serves the Pod's name
    ServeHostname(serve_hostname::ServeHostname),
    /// Serves the container's files
    TestWebserver {
        /// Port
        #[arg(long, default_value_t = 80)]
        port: u16,
    },
}

/// Runs `agnhost …`; `args` begin with its name.
pub async fn run(args: &[String]) -> Result<ExitCode, StandInError> {
    let command = match Agnhost::try_parse_from(args) {
        Ok(parsed) => parsed.command,
        Err(error) if error.exit_code() == 0 => {
            say(&mut io::stdout(), &error.to_string());
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(StandInError::Arguments(error.to_string())),
    };
    match command {
        Command::Connect(connect) => return Ok(connect.run().await),
        Command::DnsServerList => resolver::print("nameserver")?,
        Command::DnsSuffix => resolver::print("search")?,
        Command::EntrypointTester { arguments } => {
            let all = ["/agnhost", "entrypoint-tester"]
                .into_iter()
                .chain(arguments.iter().map(String::as_str));
            say(&mut io::stdout(), &format!("[{}]\n", all.collect::<Vec<_>>().join(" ")));
        }
        Command::EtcHosts => say(&mut io::stdout(), &format!("{}\n", files::text("/etc/hosts")?)),
        Command::GrpcHealthChecking(health) => health.run().await?,
        Command::Liveness => serve_until_asked(8080, liveness::routes()).await?,
        Command::Netexec(netexec) => return netexec.run().await,
        Command::Pause { delay_shutdown } => return pause(Duration::from_secs(delay_shutdown)).await,
        Command::Porter { json_response } => porter::run(json_response).await?,
        Command::ServeHostname(hostname) => hostname.run().await?,
        Command::TestWebserver { port } => serve_until_asked(port, files::routes()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn pause(delay: Duration) -> Result<ExitCode, StandInError> {
    say(&mut io::stdout(), "Paused\n");
    let code = if asked_to_stop().await? == SignalKind::interrupt() {
        1
    } else {
        2
    };
    if !delay.is_zero() {
        say(
            &mut io::stdout(),
            &format!("Sleeping {} seconds before exit ...", delay.as_secs()),
        );
        tokio::time::sleep(delay).await;
    }
    say(&mut io::stdout(), &format!("exiting {code}\n"));
    Ok(ExitCode::from(code))
}

#[derive(Debug, Args)]
struct GrpcHealth {
    /// Port of the health protocol
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// Port of /make-serving and /make-not-serving
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Seconds until it serves no longer; less than 0 means never
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    delay_unhealthy_sec: i64,
    /// The one service that is known
    #[arg(long, default_value = "")]
    service: String,
}

impl GrpcHealth {
    async fn run(self) -> Result<(), StandInError> {
        let started = Instant::now();
        let marked_unhealthy = Arc::new(AtomicBool::new(false));
        let mark = |unhealthy: bool, text: &'static str| {
            let marked = Arc::clone(&marked_unhealthy);
            get(move || async move {
                log(text);
                marked.store(unhealthy, Ordering::Relaxed);
                liveness::since(started)
            })
        };
        let control = Router::new()
            .route("/make-serving", mark(false, "Mark as healthy"))
            .route("/make-not-serving", mark(true, "Mark as unhealthy"))
            .fallback(not_found);
        let limit = u64::try_from(self.delay_unhealthy_sec).ok().map(Duration::from_secs);
        let (service, marked) = (self.service, Arc::clone(&marked_unhealthy));
        let health = move |name: &str| {
            log("Serving the Check request for health check");
            let late = limit.is_some_and(|limit| started.elapsed() >= limit);
            // A mark of health does not stop the clock.
            let unhealthy = late || marked.load(Ordering::Relaxed);
            (name == service).then_some(if unhealthy { Serving::No } else { Serving::Yes })
        };
        log(&format!("Http server starting to listen on :{}", self.http_port));
        let control = serve(listen(self.http_port).await?, control);
        log(&format!("gRPC server starting to listen on :{}", self.port));
        let grpc = grpc_health::routes(health, "unimplemented");
        tokio::select! {
            ended = control => ended,
            ended = serve_until_asked(self.port, grpc) => ended,
        }
    }
}
