//! The files of a cluster: a folder for each node, the configurations of Redis and HAProxy, and an access key.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use toml::{Table, Value};

use super::ports::{NodeAddresses, Ports};

/// The longest path of a Unix socket on Linux, in bytes.
const SOCKET_PATH_MAX: usize = 107;
/// The id of the access key that the manifests of all nodes get.
pub const ACCESS_KEY: &str = "cluster";
const MANIFEST: &str = "jackfield.toml";

/// What a project serves.
pub struct Api {
    pub stages: Vec<String>,
    pub has_page: bool,
}

/// Where everything of one cluster is.
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Creates the folder of a cluster, without what an earlier one has left in it. Only this user may read it, because
    /// it has the socket of Redis and a secret.
    ///
    /// # Errors
    /// If it cannot be created, or if its path is too long for a socket.
    pub fn create(folder: PathBuf) -> anyhow::Result<Self> {
        let files = Self { folder };
        let length = files.socket().as_os_str().len();
        ensure!(
            length <= SOCKET_PATH_MAX,
            "{}: the path of a socket has at most {SOCKET_PATH_MAX} bytes, this one has {length}; \
             choose a shorter folder with CARGO_TARGET_DIR",
            files.socket().display()
        );
        let cannot = || format!("cannot create the folder {}", files.folder.display());
        match fs::remove_dir_all(&files.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&files.folder).with_context(cannot)?;
        Ok(files)
    }

    /// Deletes the folder.
    ///
    /// # Errors
    /// If that fails.
    pub fn remove(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot delete {}", self.folder.display()))
    }

    /// What `jackfield build -o` makes of the project.
    pub fn app(&self) -> PathBuf {
        self.folder.join("app")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    pub fn redis_configuration(&self) -> PathBuf {
        self.folder.join("redis.conf")
    }

    pub fn redis_log(&self) -> PathBuf {
        self.folder.join("redis.log")
    }

    pub fn haproxy_configuration(&self) -> PathBuf {
        self.folder.join("haproxy.cfg")
    }

    /// The access key, in the format of the AWS tools.
    pub fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    /// The manifest of a node, whose numbers begin with 1.
    pub fn manifest(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{node}")).join(MANIFEST)
    }

    /// Writes everything but `app`, which must be there. Returns what clients need to know.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn write(&self, ports: Ports) -> anyhow::Result<Api> {
        let text = fs::read_to_string(self.app().join(MANIFEST)).context("cannot read the built manifest")?;
        let app: Table = text.parse().context("cannot read the built manifest")?;
        let secret = random_secret()?;
        for (node, addresses) in (1..).zip(ports.nodes()) {
            let manifest = self.manifest(node);
            copy_folder(&self.app(), manifest.parent().expect("the manifest is in the folder of the node"))?;
            fs::remove_file(&manifest).with_context(|| format!("cannot replace {}", manifest.display()))?;
            let of_node = node_manifest(app.clone(), addresses, ports, &self.socket(), &secret);
            write(&manifest, &toml::to_string(&of_node).context("cannot write a manifest")?)?;
        }
        write(&self.redis_configuration(), &self.redis_text())?;
        write(&self.haproxy_configuration(), &haproxy_text(ports))?;
        let credentials = format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n");
        write(&self.credentials(), &credentials)?;
        let has_page = app.get("server").is_some_and(|server| server.get("page").is_some());
        Ok(Api { stages: stages(&app), has_page })
    }

    fn redis_text(&self) -> String {
        format!(
            "# Redis of the nodes. Nothing is stored on the disk.\n\
             port 0\nunixsocket \"{}\"\nunixsocketperm 700\ndir \"{}\"\nsave \"\"\nappendonly no\n\
             maxmemory-policy noeviction\nlogfile \"{}\"\n",
            self.socket().display(),
            self.folder.display(),
            self.redis_log().display()
        )
    }
}

/// Returns the manifest of a node: that of the project with other addresses, the common store, the proxy in front and
/// an access key.
fn node_manifest(mut manifest: Table, node: NodeAddresses, ports: Ports, socket: &Path, secret: &str) -> Table {
    let api = ports.api();
    let server = section(&mut manifest, "server");
    server.insert("listen".to_owned(), node.listen.to_string().into());
    server.insert("metrics".to_owned(), node.metrics.to_string().into());
    server.insert("trusted_proxies".to_owned(), Value::Array(vec![api.ip().to_string().into()]));
    server.remove("proxy_protocol");
    extend(server, "hosts", ["localhost".to_owned(), api.ip().to_string()]);
    let origins = ["localhost".to_owned(), api.ip().to_string()].map(|host| format!("http://{host}:{}", api.port()));
    extend(section(&mut manifest, "connection"), "origins", origins);
    let admin = [("listen".to_owned(), node.admin.to_string().into())];
    manifest.insert("admin".to_owned(), Value::Table(admin.into_iter().collect()));
    let backend = section(&mut manifest, "backend");
    backend.retain(|key, _| matches!(key, "prefix" | "lease"));
    backend.insert("url".to_owned(), format!("unix://{}", socket.display()).into());
    let access_key = [("secret".to_owned(), secret.into())];
    section(&mut manifest, "access_keys").insert(ACCESS_KEY.to_owned(), Value::Table(access_key.into_iter().collect()));
    manifest
}

fn section<'t>(manifest: &'t mut Table, name: &str) -> &'t mut Table {
    let section = manifest.entry(name.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    section.as_table_mut().expect("jackfield has checked that a section is a table")
}

/// Adds values to a list.
fn extend(section: &mut Table, key: &str, values: impl IntoIterator<Item = String>) {
    let list = section.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
    let list = list.as_array_mut().expect("jackfield has checked that this is a list");
    list.extend(values.into_iter().map(Value::String));
    let mut seen = Vec::new();
    list.retain(|value| {
        !seen.contains(value) && {
            seen.push(value.clone());
            true
        }
    });
}

fn stages(manifest: &Table) -> Vec<String> {
    let several = manifest.get("stages").and_then(Value::as_table);
    let one = || manifest.get("api")?.get("stage")?.as_str();
    match several {
        Some(stages) if !stages.is_empty() => stages.keys().cloned().collect(),
        _ => vec![one().unwrap_or("dev").to_owned()],
    }
}

fn haproxy_text(ports: Ports) -> String {
    let api = ports.api();
    let mut text = format!(
        "# HAProxy in front of the nodes. docs/nodes.md explains these settings.
global
    maxconn 4096
    no strict-limits
    hard-stop-after 5s

defaults
    mode http
    # A node that rejects or does not answer a connection costs a new try on another one, not an error of the client. A
    # node that drains answers handshakes with 503.
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response 503
    timeout connect 5s
    timeout check 2s
    timeout http-request 10s
    timeout http-keep-alive 10s
    timeout queue 5s
    timeout client 40s
    timeout server 40s
    # After the upgrade. A node pings each peer every 25 seconds, so only a dead tunnel is silent for so long.
    timeout tunnel 5m

frontend api
    bind {api}
    # A post that a node has accepted must not be sent twice.
    http-request disable-l7-retry unless METH_GET
    # Replaces what a client has made up.
    http-request set-header X-Forwarded-For %[src]
    http-request del-header Forwarded
    default_backend nodes

backend nodes
    balance leastconn
    option httpchk
    http-check send meth GET uri {READY_PATH} ver HTTP/1.1 hdr Host {}
    http-check expect status 200
    # A node that is no longer ready gets no new connections; those that it has stay.
    default-server check inter 1s fall 2 rise 1
",
        api.ip()
    );
    for (number, node) in (1..).zip(ports.nodes()) {
        writeln!(text, "    server node-{number} {} port {}", node.listen, node.metrics.port())
            .expect("a string accepts everything");
    }
    text
}

/// What HAProxy asks each node, at the listener of the metrics.
const READY_PATH: &str = "/ready";

fn random_secret() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.context("cannot read /dev/urandom")?;
    Ok(bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

/// Writes a new file that only this user may read.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot copy {}", path.display());
    DirBuilder::new().mode(0o700).create(to).with_context(|| cannot(from))?;
    for entry in fs::read_dir(from).with_context(|| cannot(from))? {
        let (source, name) = entry.map(|entry| (entry.path(), entry.file_name())).with_context(|| cannot(from))?;
        let target = to.join(name);
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| cannot(&source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn manifest(text: &str) -> Table {
        let ports = Ports::find(0, 3).unwrap();
        let node = ports.nodes().next().unwrap();
        node_manifest(text.parse().unwrap(), node, ports, Path::new("/c/redis.sock"), "00ff")
    }

    #[test]
    fn a_manifest_keeps_what_is_no_matter_of_the_place() {
        let text = "[api]\nstage = \"beta\"\n[server]\nlisten = \"0.0.0.0:1\"\nproxy_protocol = true\nhosts = [\"a.example\"]\n\
                    [admin]\nlisten = \"127.0.0.1:2\"\ntoken_env = \"TOKEN\"\n\
                    [backend]\nurl = \"sled:../data\"\ndurability = \"always\"\nlease = \"3s\"\n\
                    [access_keys.robot]\nsecret = \"hidden\"\n[routes]\n\"$default\" = \"a\"\n";
        let found = manifest(text);
        assert_eq!(found["api"]["stage"].as_str(), Some("beta"));
        assert_eq!(found["routes"]["$default"].as_str(), Some("a"));
        let server = found["server"].as_table().unwrap();
        assert!(server["listen"].as_str().unwrap().starts_with("127.0.0.1:"), "{server}");
        assert_eq!(server["hosts"].to_string(), "[\"a.example\", \"localhost\", \"127.0.0.1\"]");
        assert!(!server.contains_key("proxy_protocol"), "{server}");
        assert_eq!(found["backend"].to_string(), "{ lease = \"3s\", url = \"unix:///c/redis.sock\" }");
        assert!(!found["admin"].as_table().unwrap().contains_key("token_env"));
        let keys: Vec<&str> = found["access_keys"].as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["cluster", "robot"]);
        assert_eq!(stages(&found), ["beta"]);
    }

    #[test]
    fn the_stages_of_a_project_are_known() {
        assert_eq!(stages(&manifest("")), ["dev"]);
        assert_eq!(stages(&manifest("[stages.a]\n[stages.b]\n")), ["a", "b"]);
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_an_error_before_anything_is_created() {
        let folder = std::env::temp_dir().join("x".repeat(SOCKET_PATH_MAX));
        let error = Files::create(folder.clone()).err().unwrap().to_string();
        assert!(error.contains("at most 107 bytes") && !folder.exists(), "{error}");
    }

    #[test]
    fn haproxy_accepts_the_configuration() {
        let program = crate::setup::haproxy().unwrap();
        let file = std::env::temp_dir().join(format!("haproxy-{}.cfg", std::process::id()));
        fs::write(&file, haproxy_text(Ports::find(0, 3).unwrap())).unwrap();
        let output = Command::new(program).args(["-c", "-f"]).arg(&file).output().unwrap();
        fs::remove_file(&file).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("WARNING"), "{text}");
    }
}
