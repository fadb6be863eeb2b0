//! `serve` and `dev`: the server, from the manifest to the last `$disconnect`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::backend::Backend;
use crate::capability::Services;
use crate::cli::{ManifestArg, admin, answer, load_manifest, missing, open_files, runtime, told};
use crate::config;
use crate::connections::Connections;
use crate::gateway::{Gateway, Transport};
use crate::metrics::Metrics;
use crate::reload::{Build, Builds, Extras, Files, Live, LoadError, Loader, WatchMode, compile_time};
use crate::server::{Server, ServerOptions, serve_admin, serve_metrics};

/// A look at every file costs something, and a change should be seen the same day.
const POLL_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60 * 60);

/// Serve the API of a manifest, and follow its files
///
/// A component that changes is live for the next event; a manifest that changes is checked as a
/// whole and swapped as a whole. No connection is dropped. What does not load leaves the old
/// version serving. SIGHUP has everything looked at again; ctrl-c and SIGTERM stop.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield serve chat/jackfield.toml")]
pub struct Serve {
    #[command(flatten)]
    manifest: ManifestArg,
    #[command(flatten)]
    options: Options,
}

/// Serve, and build what changes
///
/// Does what serve does, and runs the `build` command of each integration: at the start, and again
/// when something in its `watch` has changed. A build that fails leaves the old version serving.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield dev chat/jackfield.toml")]
pub struct Dev {
    #[command(flatten)]
    manifest: ManifestArg,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Args)]
struct Options {
    /// Listen here, whatever the manifest says; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    listen: Option<SocketAddr>,
    /// Look at the files so often, where their system does not tell of changes: 500ms
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    poll: Option<Duration>,
    /// Open @connections, unsigned, on an address that others can reach
    #[arg(long)]
    insecure_management: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|interval| POLL_INTERVALS.contains(interval));
    let [least, most] = [POLL_INTERVALS.start(), POLL_INTERVALS.end()].map(|limit| humantime::format_duration(*limit));
    parsed.ok_or_else(|| format!("expected a duration from {least} to {most}, such as 500ms"))
}

impl Serve {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        run(&self.manifest, &self.options, false).await
    }
}

impl Dev {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        run(&self.manifest, &self.options, true).await
    }
}

async fn run(manifest: &ManifestArg, options: &Options, develop: bool) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let hangup = signals(stop.clone())?;
    let config = load_manifest(&manifest.manifest)?;
    let warnings = config.warnings.iter().map(ToString::to_string).chain(missing(&config));
    warnings.for_each(|warning| warn!("{warning}"));
    // Before anything that it names is read, so that no change goes unnoticed.
    let mode = options.poll.map_or(WatchMode::Notify, WatchMode::Poll);
    let files = Files::watch(mode, &config, develop)?;
    let mut builds = develop.then(|| Builds::new(&config.folder));
    if let Some(builds) = &mut builds {
        if Build::all(&config).is_empty() {
            warn!(
                "no integration says how to build it: this is serve, and nothing more (build and watch in the manifest)"
            );
        }
        let built = stop.run_until_cancelled(builds.build_all(Build::all(&config))).await;
        let Some(built) = built else { return Ok(ExitCode::SUCCESS) };
        built?;
    }

    let metrics = match config.server.metrics {
        Some(_) => Metrics::recording()?,
        None => Metrics::disabled(),
    };
    let config::Backend::Sled(sled) = &config.backend;
    let backend = Backend::open_sled(sled).context("[backend] url")?;
    let connections = Connections::new(metrics.posts.clone(), metrics.outbox_refusals.clone());
    let services = Services {
        connections: Arc::clone(&connections),
        backend: backend.clone(),
        message_bytes: config.connection.message_bytes,
    };
    let runtime = runtime(&config.server)?;
    let loader = Loader {
        runtime,
        services,
        metrics: Arc::clone(&metrics),
        throttles: Arc::default(),
        transport: Transport::new(),
        serving: false,
    };
    let plugins = loader.load_all(&config).await;
    let plugins = plugins.map_err(|problems| told("the components have", problems.iter().map(LoadError::to_string)))?;
    for (name, loaded) in &plugins {
        let compile = compile_time(&loaded.artifact);
        info!(plugin = %name, version = %loaded.plugin.version(), %compile, "loaded");
    }
    let extras = loader.load_extras(&config, &Extras::default()).await;
    let extras = extras.map_err(|problems| told("there are", problems.iter().map(LoadError::to_string)))?;
    let deployment = loader.deployment(&config, &plugins, &extras);
    let gateway = Gateway::new(connections, backend.clone(), deployment, Arc::clone(&metrics));

    open_files::raise(config.server.connections_max);
    let server = Server::bind(
        ServerOptions {
            listen: options.listen.unwrap_or(config.server.listen),
            page: config.server.page.clone(),
            connections_max: config.server.connections_max,
            stop_timeout: config.server.stop_timeout,
            insecure_management: options.insecure_management,
        },
        Arc::clone(&gateway),
    )?;
    if let (Some(listen), Some(handle)) = (config.server.metrics, metrics.handle()) {
        let address = serve_metrics(listen, handle, stop.clone()).await?;
        info!("metrics on http://{address}/metrics, health on http://{address}/health");
    }
    let (roll_back, roll_backs) = mpsc::channel(1);
    if let Some(admin) = &config.admin {
        let token = admin::make_token(&config, admin)?;
        let address = serve_admin(admin.listen, &token, Arc::clone(&gateway), roll_back, stop.clone()).await?;
        info!("admin on http://{address}/deployments");
    }
    let left_behind = backend.rows().await.context("cannot read the connections that were left behind")?;
    let tasks = TaskTracker::new();
    if !left_behind.is_empty() {
        let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
        tasks.spawn(async move {
            // What a stop cuts off, the next start finds again.
            if let Some(count @ 1..) = stop.run_until_cancelled(gateway.bury(left_behind)).await {
                info!("{count} connections that an earlier process left behind got their $disconnect (1006)");
            }
        });
    }

    announce(&server, &config)?;
    let following = Live::new(config, plugins, extras, files, builds, loader, Arc::clone(&gateway));
    let following = following.follow(hangup, roll_backs, stop.clone());
    tasks.spawn(async move {
        if let Err(error) = following.await {
            error!("changes of files are not followed: {error:#}");
        }
    });
    server.run(stop).await;
    tasks.close();
    tasks.wait().await;
    backend.flush().await.context("the last flush failed")?;
    // The last `$disconnect` has its line by now.
    tokio::task::block_in_place(|| gateway.close_access_logs());
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Says on stdout, in a line that a program can read, that connections are accepted.
fn announce(server: &Server, config: &config::Config) -> anyhow::Result<()> {
    let address = server.address();
    let stages: String = config.stages.keys().map(|stage| format!("listening on ws://{address}/{stage}\n")).collect();
    let page = config.server.page.iter().map(|_| format!("page on http://{address}/\n"));
    answer(&format!("{stages}{}", page.collect::<String>()))
}

/// SIGTERM and ctrl-c stop, a second one at once; SIGHUP asks for a reload.
fn signals(stop: CancellationToken) -> anyhow::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for ctrl-c")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => {}
                Some(()) = interrupt.recv() => {}
                Some(()) = hangup.recv() => {
                    // One that waits already will do for both.
                    let _ = reload.try_send(());
                    continue;
                }
            }
            if stop.is_cancelled() {
                warn!("stopped at once: handlers that still ran were cut off");
                std::process::exit(1);
            }
            stop.cancel();
        }
    });
    Ok(reloads)
}
