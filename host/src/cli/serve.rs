//! `serve` and `dev`: run the server, from loading the manifest to the last `$disconnect`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};

use crate::backend::Backend;
use crate::capability::{FullBuckets, GuestDescriptors, Services};
use crate::cli::{
    EnginesArg, ManifestArg, admin, combine_problems, events_memory, missing_page_warning, new_runtime, open_files,
    print_output,
};
use crate::config::{self, Component, Config, MANIFEST_BYTES_MAX};
use crate::connections::budget::PeerMemory;
use crate::connections::{ConnectionCounters, Connections};
use crate::directory::Directory;
use crate::gateway::{Gateway, Nodes, OwnNode, Transport};
use crate::limits::{
    ANNOUNCE_TIMEOUT, EXPORT_INTERVAL, FIRST_EXPORT_DELAY, LOG_FLUSH_TIMEOUT, PEER_MEMORY_DIVISOR, START_WAIT_MAX,
    STOP_EXPORT_TIMEOUT,
};
use crate::memory::{SharedMemory, machine_bytes};
use crate::metrics::Metrics;
use crate::reload::{
    AccessFollower, Build, BuildQueue, DeploymentParts, LoadError, Loader, Reloader, ReloaderOptions, Resources,
    ServeMode, StartOptions, StartedPlugins, WatchMode, WatchedFiles, display_path, read_unwatched,
};
use crate::runtime;
use crate::server::{
    AcceptOptions, HostRules, MonitoringOptions, Readiness, Server, ServerOptions, StopSteps, serve_admin,
    serve_metrics,
};
use crate::telemetry;

/// Accepted intervals of `--poll`: reading all files has a cost, and changes should be noticed soon.
const POLL_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60 * 60);

/// Reports about failing versions that may wait to be handled. A further one is sent again by the next event.
const PROBATION_REPORTS_MAX: usize = 64;
/// Longest accepted `--start-wait`.
const START_WAIT_LONGEST: Duration = Duration::from_secs(60 * 60);

/// Serve the API of a manifest, and reload its files when they change
///
/// A changed component handles the next event; a changed manifest is checked and swapped as a
/// whole. No connection is dropped. If something does not load, the old version keeps serving.
/// SIGHUP reloads all files; ctrl-c and SIGTERM stop the server.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield serve chat/jackfield.toml")]
pub struct Serve {
    #[command(flatten)]
    manifest: ManifestArg,
    #[command(flatten)]
    options: ServeOptions,
}

/// Serve, and rebuild components when their sources change
///
/// Like serve, but also builds each component that has `language` or `build`: at the start, and
/// whenever its source, or a file in its `watch`, changes. If a build fails, the old version keeps
/// serving.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield dev chat/jackfield.toml")]
pub struct Dev {
    #[command(flatten)]
    manifest: ManifestArg,
    #[command(flatten)]
    options: ServeOptions,
}

#[derive(clap::Args)]
struct ServeOptions {
    /// Address to listen on; overrides the manifest; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    listen: Option<SocketAddr>,
    /// Poll the files at this interval, such as 500ms, if the file system does not report changes
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    poll: Option<Duration>,
    /// Accept unsigned @connections requests on an address that others can reach
    #[arg(long)]
    insecure_management: bool,
    /// Refuse to start if one component does not load
    #[arg(long)]
    fail_fast: bool,
    /// Wait this long for slow components at the start; the default is 5s
    #[arg(long, value_name = "TIME", value_parser = start_wait)]
    start_wait: Option<Duration>,
    #[command(flatten)]
    engines: EnginesArg,
}

fn start_wait(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|timeout| *timeout <= START_WAIT_LONGEST);
    let most = humantime::format_duration(START_WAIT_LONGEST);
    parsed.ok_or_else(|| format!("expected a duration up to {most}, such as 5s"))
}

fn interval(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|interval| POLL_INTERVALS.contains(interval));
    let [least, most] = [POLL_INTERVALS.start(), POLL_INTERVALS.end()].map(|limit| humantime::format_duration(*limit));
    parsed.ok_or_else(|| format!("expected a duration from {least} to {most}, such as 500ms"))
}

impl Serve {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        run(&self.manifest, &self.options, ServeMode::Serve).await
    }
}

impl Dev {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        run(&self.manifest, &self.options, ServeMode::Dev).await
    }
}

async fn run(manifest: &ManifestArg, options: &ServeOptions, serve_mode: ServeMode) -> anyhow::Result<ExitCode> {
    let steps = StopSteps::default();
    let stop = steps.stop().clone();
    let reload_requests = signals(steps.clone())?;
    let loading = stop.run_until_cancelled(load_manifest(&manifest.manifest)).await;
    let Some(config) = loading.transpose()? else { return Ok(ExitCode::SUCCESS) };
    let warnings = config.warnings.iter().map(ToString::to_string).chain(missing_page_warning(&config));
    warnings.for_each(|warning| warn!("{warning}"));
    // Watch the files before they are read, so that no change is missed.
    let mode = options.poll.map_or(WatchMode::Notify, WatchMode::Poll);
    let files = WatchedFiles::watch(mode, &config, serve_mode)?;
    let throttles = Arc::default();
    let mut access = AccessFollower::watch(mode, serve_mode, &config, Arc::clone(&throttles))?;
    let mut builds = (serve_mode == ServeMode::Dev).then(|| BuildQueue::new(&config.folder));
    if let Some(builds) = &mut builds {
        // A script is served as it is.
        let is_script = |component: &Component| component.script.is_some();
        let needs_no_build = !config.components.is_empty() && config.components.values().all(is_script);
        if Build::all(&config).is_empty() && !needs_no_build {
            warn!(
                "no component has a language or a build command, so dev only serves (set language, or build and watch, in the manifest)"
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
    telemetry::count_dropped(metrics.log_dropped.clone());
    let backend = match &config.backend {
        config::Backend::Sled(sled) => Backend::open_sled(sled).context("[backend] url")?,
        config::Backend::Redis { options, .. } => Backend::connect_redis(options).await.context("[backend]")?,
    };
    let counters = ConnectionCounters {
        posts: metrics.posts.clone(),
        outbox_refusals: metrics.outbox_refusals.clone(),
        memory_refusals: metrics.peer_memory_refusals.clone(),
        memory_closes: metrics.peer_memory_closes.clone(),
    };
    let connections = Connections::new(counters, PeerMemory::new(peer_memory_bytes(&config)));
    // The start may take longer than a lease. Afterwards the gateway renews it.
    let renewing = AbortOnDropHandle::new(tokio::spawn(renew_lease(backend.clone())));
    let directory = match backend.channel().await.context("[backend] url")? {
        Some((channel, received)) => Directory::of_node(connections, backend.clone(), channel, received, metrics.bus()),
        None => Directory::local(connections, backend.clone()),
    };
    // Before the components are loaded, because each is an open file.
    let open_files = open_files::raise();
    let services = Services {
        directory: Arc::clone(&directory),
        backend: backend.clone(),
        full_buckets: Arc::new(FullBuckets::new(metrics.bucket_refusals.clone())),
        descriptors: GuestDescriptors::new(open_files::guest_share(&open_files)),
        memory: SharedMemory::new(Some(runtime::bytes_for_events(events_memory(&config)))),
        message_bytes: config.connection.message_bytes,
    };
    let runtime = new_runtime(&config, &options.engines, metrics.waiting.clone())?;
    // `dev` serves what its author has just written, whatever it returns.
    let (reports, probation_reports) = mpsc::channel(PROBATION_REPORTS_MAX);
    let loader = Loader {
        runtime,
        services,
        metrics: Arc::clone(&metrics),
        throttles,
        transport: Transport::counting(metrics.waiting.clone()),
        reader: files.reader(),
        artifacts: Arc::default(),
        sources: Arc::default(),
        probation_reports: (serve_mode == ServeMode::Serve).then_some(reports),
        packages: (serve_mode == ServeMode::Dev).then(Arc::default),
    };
    let start = StartOptions { timeout: options.start_wait.unwrap_or(START_WAIT_MAX), fail_fast: options.fail_fast };
    let started = stop.run_until_cancelled(loader.start(&config, start)).await;
    let Some(started) = started else { return Ok(ExitCode::SUCCESS) };
    let StartedPlugins { plugins, problems, loads } = started
        .map_err(|problems| combine_problems("the components have", problems.iter().map(LoadError::to_string)))?;
    let resources = loader.load_resources(&config, &Resources::default()).await;
    let resources =
        resources.map_err(|problems| combine_problems("there are", problems.iter().map(LoadError::to_string)))?;
    access.restrict().await;
    let deployment = loader.deployment(&config, &plugins, &resources);
    let gateway = Gateway::new(directory, backend.clone(), deployment, access.access(), Arc::clone(&metrics));
    gateway.read_revoked_keys().await.context("cannot read which keys are revoked")?;

    let connections_max = open_files::connections(&open_files, config.server.connections_max, config.components.len());
    let hosts = HostRules::new(config.server.hosts.clone(), serve_mode == ServeMode::Dev);
    let server = Server::bind(
        ServerOptions {
            listen: options.listen.unwrap_or(config.server.listen),
            page: config.server.page.clone(),
            accept: AcceptOptions {
                connections_max,
                source_connections_max: config.server.source_connections_max,
                trusted_proxies: config.server.trusted_proxies.clone(),
                proxy_protocol: config.server.proxy_protocol,
            },
            hosts: hosts.clone(),
            drain: config.server.drain,
            stop_timeout: config.server.stop_timeout,
            insecure_management: options.insecure_management,
        },
        Arc::clone(&gateway),
    )?;
    if serve_mode == ServeMode::Serve {
        warn_about_pages(&config);
    }
    // Operators are served until the last `$disconnect` has run.
    let end = CancellationToken::new();
    if let (Some(listen), Some(metrics)) = (config.server.metrics, gateway.metrics_handle()) {
        let readiness = Readiness::new(Arc::clone(&gateway), steps.first().clone());
        let options = MonitoringOptions { listen, metrics, hosts, readiness };
        let address = serve_metrics(options, end.clone()).await?;
        info!("metrics on http://{address}/metrics, health on http://{address}/health");
    }
    let (roll_back, roll_backs) = mpsc::channel(1);
    let own = OwnNode { listen: server.address(), stopping: steps.first().clone() };
    let nodes = Nodes::new(Arc::clone(&gateway), own.clone(), roll_back);
    if let Some(admin) = &config.admin {
        let token = admin::make_token(&config, admin)?;
        let address = serve_admin(admin.listen, &token, nodes.clone(), end.clone()).await?;
        info!("admin on http://{address}/deployments");
    }
    let tasks = TaskTracker::new();
    drop(renewing);
    // Until the last `$disconnect` has run, which may be long after the stop was requested.
    let mut membership = JoinSet::new();
    if let Some(interval) = backend.renewal_interval() {
        membership.spawn(Arc::clone(&gateway).keep_membership(interval, own));
        tasks.spawn(Arc::clone(&gateway).adopt_connections(interval, stop.clone()));
    }
    if let Some(calls) = gateway.directory().node_calls() {
        tasks.spawn(nodes.answer_calls(calls, stop.clone()));
    }
    tasks.spawn(Arc::clone(&gateway).follow_revoked_keys(stop.clone()));
    tasks.spawn(run_late_disconnects(Arc::clone(&gateway), stop.clone(), config.server.stop_timeout));

    tasks.spawn(backend.clone().export_regularly(EXPORT_INTERVAL, FIRST_EXPORT_DELAY, stop.clone()));

    // The log lines of the start come before the address, as on a terminal.
    tokio::task::block_in_place(|| telemetry::flush(Some(LOG_FLUSH_TIMEOUT)));
    announce(&server, &config).await?;
    let following = access.follow(Arc::clone(&gateway), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = following.await {
            error!("changes of keys in the manifest are no longer detected: {error:#}");
        }
    });
    let served = DeploymentParts { config, plugins, resources };
    let gateway_of_reloader = Arc::clone(&gateway);
    let reloader = Reloader::new(ReloaderOptions {
        served,
        problems,
        loads,
        probation_reports,
        files,
        builds,
        loader,
        gateway: gateway_of_reloader,
    });
    let reloading = reloader.follow(reload_requests, roll_backs, stop.clone());
    tasks.spawn(async move {
        if let Err(error) = reloading.await {
            error!("file changes are no longer detected: {error:#}");
        }
    });
    server.run(steps).await;
    tasks.close();
    tasks.wait().await;
    backend.flush_at_stop().await.context("the last flush failed")?;
    membership.shutdown().await;
    if let Err(error) = backend.leave().await {
        warn!("cannot give back the number of this node: {error}");
    }
    end.cancel();
    backend.export_at_stop(STOP_EXPORT_TIMEOUT).await;
    // All `$disconnect` handlers have run, so all their lines were queued.
    tokio::task::block_in_place(|| gateway.flush_access_logs(Instant::now() + LOG_FLUSH_TIMEOUT));
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Renews the lease of this node, if it has one.
async fn renew_lease(backend: Backend) {
    let Some(interval) = backend.renewal_interval() else { return };
    loop {
        tokio::time::sleep(interval).await;
        // A lease that is lost without connections is noticed by the gateway.
        let _ = backend.renew_lease().await;
    }
}

/// Runs the `$disconnect` events of connections that an earlier process left behind, and of those whose plugin was
/// unavailable, until the server stops. The stop waits for those that run; the others are left to the next start.
async fn run_late_disconnects(gateway: Arc<Gateway>, stop: CancellationToken, stop_timeout: Duration) {
    let disconnecting = async {
        if let count @ 1.. = gateway.disconnect_orphans(&stop).await {
            info!("ran $disconnect (1006) for {count} connections that an earlier process left behind");
        }
        gateway.run_waiting_disconnects(&stop).await;
    };
    let timed_out = async {
        stop.cancelled().await;
        tokio::time::sleep(stop_timeout).await;
    };
    tokio::select! {
        () = disconnecting => {}
        () = timed_out => warn!(
            "the stop took longer than {stop_timeout:?} (stop_timeout in [server]): $disconnect handlers of connections \
             that ended earlier were aborted; the next start runs them again"
        ),
    }
}

/// Returns the bytes that may wait for all peers together.
fn peer_memory_bytes(config: &Config) -> usize {
    let default = || machine_bytes().map_or(usize::MAX, |bytes| bytes / PEER_MEMORY_DIVISOR);
    config.server.peer_memory_bytes.unwrap_or_else(default)
}

/// Reads the manifest once the program that writes it has closed it.
///
/// # Errors
/// All problems of the manifest. An empty one is rejected: every key has a default, so it would be an API without routes
/// and authorizers, but it is more likely a file that another program is about to write.
async fn load_manifest(path: &Path) -> anyhow::Result<Config> {
    let read = if path.is_file() {
        read_unwatched(path, MANIFEST_BYTES_MAX).await
    } else {
        // A pipe is complete at its end, and what is no file has an error of its own.
        config::read(path)
    };
    let is_empty = read.as_deref().is_ok_and(|text| text.trim_ascii().is_empty());
    let name = display_path(path);
    ensure!(!is_empty, "{name}: found nothing, expected a manifest; create a project with jackfield new LANGUAGE NAME");
    Config::parse_read(read, path)
        .map_err(|problems| combine_problems("the manifest has", problems.iter().map(ToString::to_string)))
}

/// Logs what `serve` admits without a list, as API Gateway does. A page of any site can connect then.
fn warn_about_pages(config: &Config) {
    let (admitted, keys) = match (&config.server.hosts, &config.origins) {
        (None, None) => {
            ("every host and web pages of every origin are", "hosts in [server] and origins in [connection]")
        }
        (None, Some(_)) => ("every host is", "hosts in [server]"),
        (Some(_), None) => ("web pages of every origin are", "origins in [connection]"),
        (Some(_), Some(_)) => return,
    };
    warn!("{admitted} admitted, as on API Gateway; to admit only yours, list them: {keys}");
}

/// Prints the addresses on stdout, in lines that programs can parse: connections are accepted from now on. A thread of
/// its own prints them, because the pipe of a stdout that is not read may be full.
///
/// # Errors
/// If stdout cannot be written.
async fn announce(server: &Server, config: &config::Config) -> anyhow::Result<()> {
    let address = server.address();
    let stages: String = config.stages.keys().map(|stage| format!("listening on ws://{address}/{stage}\n")).collect();
    let page = config.server.page.iter().map(|_| format!("page on http://{address}/\n"));
    let lines = format!("{stages}{}", page.collect::<String>());
    let (sender, printed) = oneshot::channel();
    // If `announce` has stopped waiting, no task receives the result.
    let print = move || drop(sender.send(print_output(&lines)));
    std::thread::Builder::new().name("announce".to_owned()).spawn(print).context("cannot start a thread")?;
    match tokio::time::timeout(ANNOUNCE_TIMEOUT, printed).await {
        Ok(result) => result.context("the thread that prints the address has ended")?,
        Err(_) => {
            warn!("stdout is not read, so the address is not printed yet: listening on {address}");
            Ok(())
        }
    }
}

/// Listens for signals: SIGTERM and ctrl-c begin the drain, if there is one, then the stop, and then end the process at
/// once; SIGHUP requests a reload. Returns the channel that receives these requests.
fn signals(steps: StopSteps) -> anyhow::Result<mpsc::Receiver<()>> {
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
                    // If the channel is full, a reload is already pending.
                    let _ = reload.try_send(());
                    continue;
                }
            }
            if !steps.advance() {
                warn!("stopped immediately: running handlers were aborted");
                telemetry::flush(Some(LOG_FLUSH_TIMEOUT));
                std::process::exit(1);
            }
        }
    });
    Ok(reloads)
}
