//! The disk of a hub's mirrors is full: nothing new is fetched, all else goes on, and nobody has to repair anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};

use crate::config_map;

/// The hub's folder of mirrors, which has no room while it is `fill`ed. Root, whom no right keeps from writing, has it on a
/// small disk of its own; anybody else may then not write to it: to the hub it is the same failure.
struct Mirrors {
    folder: PathBuf,
    is_mounted: bool,
}

impl Mirrors {
    fn make(folder: PathBuf) -> Result<Self> {
        let is_mounted = nix::unistd::Uid::effective().is_root();
        if is_mounted {
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "bw"]).arg(&folder).status()?;
            ensure!(mounted.success(), "{} cannot be mounted", folder.display());
        }
        Ok(Self { folder, is_mounted })
    }

    fn fill(&self) -> Result<()> {
        if !self.is_mounted {
            return self.set_modes(0o500);
        }
        let full = fs::write(self.filler(), vec![1; 9 << 20]).expect_err("it is larger than the disk");
        ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        if !self.is_mounted {
            return self.set_modes(0o700);
        }
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    fn set_modes(&self, mode: u32) -> Result<()> {
        fn set(folder: &Path, mode: u32) -> std::io::Result<()> {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    set(&entry.path(), mode)?;
                }
            }
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        }
        Ok(set(&self.folder, mode)?)
    }
}

impl Drop for Mirrors {
    fn drop(&mut self) {
        if self.is_mounted {
            // Also while a hub that is about to be ended has files open there.
            let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        } else {
            let _ = self.set_modes(0o700);
        }
    }
}

fn with_text(text: &str) -> String {
    format!("  parameters: [{{values: {{text: {text}}}}}]\n")
}

#[tokio::test]
async fn a_full_disk_of_mirrors_is_told_and_keeps_nothing_from_what_was_fetched() -> Result<()> {
    Scene::run(&[1], async |scene| {
        scene.hub.kill9().await?;
        let mirrors = Mirrors::make(scene.folder.path().join("hub/repos"))?;
        scene.hub.restart().await?;
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "${text}"))]).await?;
        scene.add_repo_polled(5).await?;
        scene.apply_target("shop", &with_text("one")).await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        mirrors.fill()?;
        let second = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
        eventually(PATIENCE, "the full disk is told", async || {
            let status = scene.cli(&["status", "-o", "json"]).await?.json()?;
            let condition = &status["conditions"][0];
            ensure!(condition["code"] == "git_mirror", "{status:#}");
            ensure!(condition["hint"].as_str().is_some_and(|hint| hint.contains("free space")), "{status:#}");
            Ok(())
        })
        .await?;
        // What was fetched before is read, rendered anew and rolled out.
        scene.apply_target("shop", &with_text("three")).await?.ended_with(0)?;
        scene.wait_for_value(1, "greeting", "text", "three").await?;
        mirrors.empty()?;

        scene.wait_until_healthy(&second).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "two");
        Ok(())
    })
    .await
}
