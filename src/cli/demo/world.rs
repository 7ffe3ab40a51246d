//! What the demo needs around it: a folder, origins, and exeat between them and the client, started as `run` starts it.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::calls::{BUCKET, DYNAMODB, ELSEWHERE, EXPIRED, MOVED, OLD, OTHER_BUCKET, PARTNER};
use super::client::Client;
use super::keys::Keys;
use super::origin::{self, Authority, Kind, Seen, Validity};
use super::{Error, random};
use crate::app::App;
use crate::config::{self, Key, Layer, Origin};

pub struct World {
    pub app: App,
    pub client: Client,
    pub keys: Keys,
    pub seen: Arc<Seen>,
    pub trail: Trail,
    /// Goes last: the others have files in it.
    pub folder: Folder,
}

impl World {
    /// Everything on loopback, on ports that the system picks.
    pub async fn start(policy: &str) -> Result<Self, Error> {
        let (folder, keys, authority, seen) =
            (Folder::new()?, Keys::random()?, Authority::new()?, Arc::<Seen>::default());
        let good = |names: &[&str]| authority.acceptor(names, Validity::Good);
        let aws = good(&[BUCKET, OTHER_BUCKET, DYNAMODB])?;
        let aws = origin::start(Kind::Aws(aws, keys.known_to_aws()), &seen).await?;
        let api = async |acceptor| origin::start(Kind::Api(acceptor), &seen).await;
        let rules = [
            (BUCKET, aws),
            (OTHER_BUCKET, aws),
            (DYNAMODB, aws),
            (PARTNER, api(good(&[PARTNER])?).await?),
            (OLD, origin::start(Kind::Old, &seen).await?),
            (EXPIRED, api(authority.acceptor(&[EXPIRED], Validity::Expired)?).await?),
            (MOVED, api(good(&["somebody-else.example"])?).await?),
            // Whatever else might be dialled stays on this machine, and would be counted.
            ("*", api(good(&[ELSEWHERE])?).await?),
        ];
        let audit = folder.path("audit.jsonl");
        let mut settings = Layer::default();
        let mut set = |key, text: String| settings.push(key, text, Origin::Flag("demo"));
        set(Key::Listen, "127.0.0.1:0".into());
        set(Key::Admin, "127.0.0.1:0".into());
        set(Key::Workers, "1".into());
        set(Key::LimitsDrain, "1s".into());
        set(Key::Policy, folder.write("policy.yaml", policy)?);
        set(Key::Credentials, folder.write("credentials", &keys.ours.profile("workload"))?);
        set(Key::UpstreamRoots, "none".into());
        set(Key::UpstreamCa, folder.write("origins.pem", &authority.pem())?);
        set(Key::Audit, Folder::text(&audit)?);
        for (host, address) in rules {
            set(Key::ConnectTo, format!("{host}:443={address}"));
        }
        // Nothing of the environment counts: a demo shows the same on every machine.
        let config = config::load(settings, [], |_| None)?.config;
        let app = App::start(config)?;
        let client = Client::new(app.forward(), app.ca_pem())?;
        Ok(Self { app, client, keys, seen, trail: Trail { path: audit, at: 0, part: Vec::new() }, folder })
    }
}

/// A folder of the user's alone, gone with the demo.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Error> {
        let mut bytes = [0; 8];
        random(&mut bytes)?;
        let path = std::env::temp_dir().join(format!("exeat-demo-{:016x}", u64::from_be_bytes(bytes)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Gives the file's path, as a setting.
    fn write(&self, name: &str, text: &str) -> Result<String, Error> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Self::text(&path)
    }

    fn text(path: &Path) -> Result<String, Error> {
        path.to_str()
            .map(str::to_owned)
            .ok_or(Error::Message("a folder for temporary files that is no UTF-8"))
    }

    /// Takes the folder's own name out of what is shown: it is gone by the time anybody reads it.
    pub fn without_its_name(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder stays");
        }
    }
}

/// The audit file, read as it grows.
pub struct Trail {
    pub path: PathBuf,
    at: u64,
    /// Of a line that is not whole yet.
    part: Vec<u8>,
}

impl Trail {
    /// Lines since the last call; waits for an event among them until `deadline`.
    pub async fn news(&mut self, deadline: Instant) -> io::Result<Vec<Value>> {
        let mut lines = self.read()?;
        while !lines.iter().any(is_event) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
            lines.append(&mut self.read()?);
        }
        Ok(lines)
    }

    fn read(&mut self) -> io::Result<Vec<Value>> {
        let mut file = fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        self.at += file.read_to_end(&mut self.part)? as u64;
        let Some(end) = self.part.iter().rposition(|&byte| byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.part.split_off(end + 1);
        let whole = std::mem::replace(&mut self.part, rest);
        let lines = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
    }
}

pub fn is_event(line: &Value) -> bool {
    line["eventVersion"].is_string()
}

pub fn is_intent(line: &Value) -> bool {
    line["exeat"] == "intent"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_is_private_and_gone_with_its_world() {
        use std::os::unix::fs::PermissionsExt;
        let world = World::start(super::super::POLICY).await.unwrap();
        let folder = world.folder.0.clone();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(world.trail.path.starts_with(&folder));
        drop(world);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn the_trail_gives_whole_lines_once_each() {
        let folder = Folder::new().unwrap();
        let path = folder.path("audit.jsonl");
        let mut trail = Trail { path: path.clone(), at: 0, part: Vec::new() };
        fs::write(&path, "{\"exeat\":\"intent\"}\n{\"eventVersion\":\"1").unwrap();
        let lines = trail.news(Instant::now()).await.unwrap();
        assert!(lines.len() == 1 && is_intent(&lines[0]), "{lines:?}");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, b".11\"}\n").unwrap();
        let lines = trail.news(Instant::now()).await.unwrap();
        assert!(lines.len() == 1 && is_event(&lines[0]), "{lines:?}");
        assert!(trail.news(Instant::now()).await.unwrap().is_empty());
    }
}
