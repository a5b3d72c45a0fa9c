//! The images that are deployed: packed, pushed to the real registry, pulled, unpacked, and run with nothing beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{Env, eventually};
use bellwether_e2e::hub::RENDER_ENGINE;
use bellwether_e2e::ports;
use bellwether_e2e::process::{Child, Launch, Tier};
use serde_json::Value;
use tokio::process::Command;

/// The port was free when it was asked for; the registry starts in well under a second.
const START_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_image_that_was_pushed_and_pulled_runs_with_nothing_but_what_is_in_it() -> Result<()> {
    let env = Env::from_environment();
    let folder = tempfile::tempdir()?;
    let images = folder.path().join("images");
    let engine = std::env::var(RENDER_ENGINE).context("`./dev test` builds the engine, and says where it is")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/images");
    let packed = run(Command::new(script).arg(&env.programs).arg(engine).arg(&images)).await?;
    let (_registry, address) = registry(folder.path()).await?;

    let tags: Vec<_> = packed.lines().filter_map(|line| Some(Path::new(line).file_name()?.to_str()?)).collect();
    ensure!(tags.len() == 2, "it packs two: {packed}");
    for tag in tags {
        let (name, version) = tag.split_once(':').context("an image has a tag")?;
        let bundle = pull(folder.path(), &address, tag).await?;
        let said = start(&bundle, &[]).await?;

        assert_eq!(said.trim(), format!("{name} {version}"));
        if name == "bellwether-hub" {
            let beside = start(&bundle, &["/usr/bin/bellwether-render-engine"]).await?;
            ensure!(beside.contains(r#""hello""#), "the engine says nothing: {beside}");
            ensure!(bundle.join("rootfs/etc/ssl/certs/ca-certificates.crt").is_file(), "it trusts no Git host");
        }
        ensure!(!bundle.join("rootfs/bin").exists(), "nobody needs a shell in {name}");
    }
    Ok(())
}

/// Debian's, on a port and in a folder of its own.
async fn registry(folder: &Path) -> Result<(Child, String)> {
    let address = format!("127.0.0.1:{}", ports::free()?);
    let config = folder.join("registry.yml");
    let storage = folder.join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
        storage.display()
    );
    fs::write(&config, text)?;
    let launch = Launch::new("registry", "/usr/bin/docker-registry", Tier::Preparation, folder)
        .args(["serve".to_owned(), config.display().to_string()]);
    let mut process = launch.start_child()?;
    eventually(START_DEADLINE, "the registry answers", async || {
        ensure!(process.is_alive(), "it ended: {}", process.log());
        tokio::net::TcpStream::connect(&address).await.map(|_| ()).context("it does not")
    })
    .await?;
    Ok((process, address))
}

/// Pushes an image, pulls it into another layout, and unpacks that: answers the folder with the tree and how it is started.
async fn pull(folder: &Path, address: &str, tag: &str) -> Result<PathBuf> {
    let layout = |of: &str| folder.join(of).join(tag).display().to_string();
    let (local, pulled, bundle) = (layout("images"), layout("pulled"), folder.join("unpacked").join(tag));
    fs::create_dir_all(folder.join("pulled"))?;
    fs::create_dir_all(folder.join("unpacked"))?;
    let remote = format!("docker://{address}/{tag}");
    let copy = ["--insecure-policy", "copy", "--quiet"];
    run(Command::new("skopeo").args(copy).args(["--dest-tls-verify=false", &format!("oci:{local}"), &remote])).await?;
    run(Command::new("skopeo").args(copy).args(["--src-tls-verify=false", &remote, &format!("oci:{pulled}")])).await?;
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    run(Command::new("umoci").arg("unpack").args(rootless).args(["--image", &pulled]).arg(&bundle)).await?;
    Ok(bundle)
}

/// As a container of it is started, with `--version`; or another program in it.
async fn start(bundle: &Path, other: &[&str]) -> Result<String> {
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    let process = &config["process"];
    let ids = format!("{}:{}", process["user"]["uid"], process["user"]["gid"]);
    ensure!(!is_root() || ids == "65532:65532", "it would run as {ids}");
    let entry: Vec<_> = process["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let arguments = if other.is_empty() { [entry.as_slice(), &["--version"]].concat() } else { other.to_vec() };
    let mut command = if is_root() {
        let mut command = Command::new("chroot");
        command.args(["--userspec", &ids]);
        command
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "chroot"]);
        command
    };
    run(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg(bundle.join("rootfs")).args(arguments))
        .await
}

/// Answers what it wrote.
async fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?} failed:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
