//! A panic of the host ends one connection. Counters that panic cause it, which is code that runs in its task. And a post
//! that races with the end of its connection.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{AcceptOptions, HostRules, Server, ServerOptions, StopSteps};
use crate::backend::{Backend, Durability, SledOptions};
use crate::capability::ApiInfo;
use crate::config::{self, Config};
use crate::connections::budget::PeerMemory;
use crate::connections::{ConnectionCounters, Connections, PostError};
use crate::directory::Directory;
use crate::gateway::access_log::{AccessLog, Format, LogTarget, Rotate, Sink};
use crate::gateway::{
    Access, Deployment, Gateway, Integration, Mock, Ordering, Route, RouteKey, RouteSelectionExpression, RouteTable,
    Stage, Throttles, Version,
};
use crate::id::{ApiNumber, StageId};
use crate::limits::ConnectionLimits;
use crate::metrics::{CloudWatchMetrics, Metrics};
use crate::payload::Payload;
use crate::rate_limited_log::RateLimitedLog;

const MANIFEST: &str = r#"
[integrations.ok]
type = "mock"
body = "ok"
[integrations.failing]
type = "mock"
status = 500
"#;

/// The stage, the key of the route, its integration, its ordering, and whether its counters panic.
const ROUTES: &[(&str, &str, &str, Ordering, bool)] = &[
    ("dev", "$connect", "ok", Ordering::Connection, false),
    ("dev", "$default", "ok", Ordering::Connection, false),
    ("dev", "$disconnect", "ok", Ordering::Connection, false),
    ("dev", "in-order", "ok", Ordering::Connection, true),
    ("dev", "without-order", "ok", Ordering::None, true),
    ("connect", "$connect", "ok", Ordering::Connection, true),
    ("disconnect", "$disconnect", "failing", Ordering::Connection, true),
    ("short", "$default", "ok", Ordering::Connection, false),
];

/// Pause between two posts of a slow sender.
const PAUSE: Duration = Duration::from_micros(10);
/// How long a connection to the stage `short` lasts.
const SHORT: Duration = Duration::from_millis(50);

struct Running {
    folder: tempfile::TempDir,
    backend: Backend,
    gateway: Arc<Gateway>,
    address: std::net::SocketAddr,
    steps: StopSteps,
    served: tokio::task::JoinHandle<()>,
}

type Peer = WebSocketStream<TcpStream>;

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SledOptions { folder: folder.path().join("data"), durability: Durability::Always };
        let backend = Backend::open_sled(&options).unwrap();
        let config = Config::parse(MANIFEST, Path::new("jackfield.toml")).unwrap();
        let file = LogTarget::File { path: folder.path().join("access.log"), rotate: Rotate::Never, keep: 1 };
        let sink = Arc::new(Sink::open(&file, metrics::Counter::noop()).unwrap());
        let format =
            "$context.requestId $context.stage $context.connectionId $context.routeKey $context.disconnectStatusCode";
        let access_log = Arc::new(AccessLog { format: Format::parse(format).unwrap(), sink });
        let metrics = Metrics::disabled();
        let mut stages: BTreeMap<&str, Vec<Route>> = BTreeMap::new();
        for (stage, key, integration, ordering, panics) in ROUTES {
            let mut route_metrics = metrics.route("api", stage, key);
            if *panics {
                route_metrics.cloudwatch = CloudWatchMetrics::panicking();
            }
            let config::Integration::Mock(response) = config.integrations[*integration].clone() else { unreachable!() };
            stages.entry(stage).or_default().push(Route {
                key: RouteKey::parse(key).unwrap(),
                name: (*key).into(),
                integration: Integration::Mock(Arc::new(Mock { name: (*key).into(), response, message_bytes: 1024 })),
                route_response: true,
                throttle: None,
                ordering: *ordering,
                models: None,
                connect_auth: None,
                metrics: route_metrics,
                failure_log: RateLimitedLog::default(),
            });
        }
        let stages = stages.into_iter().map(|(name, routes)| {
            let expression = RouteSelectionExpression::parse("$request.body.action").unwrap();
            let stage_id = backend.stages().id(ApiNumber(0), name);
            Stage {
                api: Arc::new(ApiInfo { stage: name.into(), stage_id, ..ApiInfo::default() }),
                base_path: None,
                routes: RouteTable::new(expression, Ordering::Connection, routes),
                throttles: Throttles::default(),
                connection: Arc::new(ConnectionLimits {
                    duration: (name == "short").then_some(SHORT),
                    ..ConnectionLimits::default()
                }),
                access_log: Some(Arc::clone(&access_log)),
                metrics: CloudWatchMetrics::default(),
            }
        });
        let deployment = Deployment::new(Version::default(), stages);
        let connections = Connections::new(ConnectionCounters::noop(), PeerMemory::new(usize::MAX));
        let gateway = Gateway::new(
            Directory::local(connections, backend.clone()),
            backend.clone(),
            deployment,
            Access::default(),
            metrics,
        );
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            page: None,
            accept: AcceptOptions {
                connections_max: 100,
                source_connections_max: None,
                trusted_proxies: Vec::new(),
                proxy_protocol: false,
            },
            hosts: HostRules::new(None, false),
            drain: Duration::ZERO,
            stop_timeout: Duration::from_secs(20),
            insecure_management: false,
        };
        let server = Server::bind(options, Arc::clone(&gateway)).unwrap();
        let (address, steps) = (server.address(), StopSteps::default());
        let served = tokio::spawn(server.run(steps.clone()));
        Self { folder, backend, gateway, address, steps, served }
    }

    async fn connect(&self, stage: &str) -> Result<Peer, tungstenite::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Ok(tokio_tungstenite::client_async(format!("ws://{}/{stage}", self.address), stream).await?.0)
    }

    /// Waits until the access log contains a text.
    async fn wait_for_log(&self, text: &str) {
        while !std::fs::read_to_string(self.folder.path().join("access.log")).unwrap().contains(text) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the store and the node have as many connections.
    async fn wait_for_connections(&self, count: usize) {
        while (self.backend.rows().await.unwrap().len(), self.gateway.connections().len()) != (count, count) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn stage(&self, name: &str) -> StageId {
        self.backend.stages().id(ApiNumber(0), name)
    }
}

async fn ask(peer: &mut Peer, text: &str) -> Message {
    peer.send(Message::text(text)).await.unwrap();
    peer.next().await.unwrap().unwrap()
}

/// Source: mswjs/interceptors#612 and RFC 6455, section 7.4.1: 1011 is the code of a server that met an unexpected
/// condition. Before, the peer got no close frame, `$disconnect` did not run, and the row stayed until the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_task_of_a_connection_closes_it_with_1011_runs_its_disconnect_and_spares_all_others() {
    let test = async {
        let running = Running::start();
        let mut other = running.connect("dev").await.unwrap();
        for action in ["in-order", "without-order"] {
            let mut peer = running.connect("dev").await.unwrap();
            assert_eq!(ask(&mut peer, "hello").await, Message::text("ok"));
            running.wait_for_connections(2).await;
            let closed = ask(&mut peer, &format!(r#"{{"action":"{action}"}}"#)).await;
            let Message::Close(Some(frame)) = closed else { panic!("{closed:?}") };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1011, "Internal server error"), "{action}");
            running.wait_for_connections(1).await;
            assert_eq!(ask(&mut other, "hello").await, Message::text("ok"));
        }
        running.wait_for_log("$disconnect 1011\n").await;
        let log = std::fs::read_to_string(running.folder.path().join("access.log")).unwrap();
        assert_eq!(log.matches("$disconnect 1011\n").count(), 2, "{log}");

        let refused = running.connect("connect").await.err();
        let Some(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(response.status().as_u16(), 500);
        running.wait_for_connections(1).await;

        let mut closing = running.connect("disconnect").await.unwrap();
        running.wait_for_connections(2).await;
        closing.close(None).await.unwrap();
        running.wait_for_connections(1).await;
        assert_eq!(ask(&mut other, "hello").await, Message::text("ok"));

        assert!(running.steps.advance());
        assert!(matches!(other.next().await, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1001));
        running.served.await.unwrap();
        assert_eq!(running.backend.rows().await, Ok(vec![]));
    };
    tokio::time::timeout(Duration::from_secs(30), test).await.unwrap();
}

/// A post that was queued is sent: also one that comes while the server closes the connection, for a stop or at the end of
/// its longest duration. Before, it could be dropped between the last look at the queue and the close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_post_that_was_queued_is_sent_before_the_server_closes() {
    let test = async {
        let running = Running::start();
        for (stage, has_pauses, rounds) in [("dev", true, 200), ("dev", false, 50), ("short", false, 50)] {
            let id = running.stage(stage);
            for round in 0..rounds {
                let mut peer = running.connect(stage).await.unwrap();
                let ids = running.gateway.connections().ids_in_stage(id);
                let [connection] = ids[..] else { panic!("{ids:?}") };
                let gateway = Arc::clone(&running.gateway);
                let posting = tokio::task::spawn_blocking(move || {
                    let mut queued = 0;
                    loop {
                        match gateway.connections().post(id, &connection, Payload::from(queued.to_string())) {
                            Ok(()) => {
                                queued += 1;
                                // The connection looks at an empty queue again and again.
                                let posted = Instant::now();
                                while has_pauses && posted.elapsed() < PAUSE {}
                            }
                            Err(PostError::LimitExceeded) => std::thread::yield_now(),
                            Err(error) => break (queued, error),
                        }
                    }
                });
                let mut received = 0;
                loop {
                    match peer.next().await {
                        Some(Ok(Message::Text(text))) => assert_eq!(text, received.to_string()),
                        Some(Ok(Message::Close(frame))) => {
                            assert_eq!(u16::from(frame.unwrap().code), 1001);
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                    received += 1;
                    if stage == "dev" && received == round + 1 {
                        running.gateway.connections().leave_all();
                    }
                }
                assert_eq!(posting.await.unwrap(), (received, PostError::Gone), "{stage}, round {round}");
                while !running.gateway.connections().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), test).await.unwrap();
}
