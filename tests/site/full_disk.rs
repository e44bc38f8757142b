//! A disk that is really full.
//!
//! The story needs a small file system of its own, so it runs a second time in a mount namespace: as root in one of
//! root's, otherwise in a user namespace. The disk is an ext4 image on a loop device where those are to be had, else
//! a tmpfs; `PERSONA_DISK=ext4` or `PERSONA_DISK=tmpfs` insists on one. What is mounted goes with the namespace.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use persona::store::free_bytes;
use serde_json::json;

use crate::process::{Failure, PASSWORD, Plan, Site, assert_sound, written};

const DISK_MIB: u64 = 48;
/// Set in the namespace, where mounting is allowed.
const INSIDE: &str = "PERSONA_TEST_MAY_MOUNT";
const TEST: &str = "full_disk::a_full_disk_stops_sign_ups_then_writes_but_not_the_site";
const PEOPLE: usize = 40;
/// Writes that a disk without a free block may still take: RocksDB has set room for its log aside.
const WRITES_MAX: usize = 40_000;

#[test]
fn a_full_disk_stops_sign_ups_then_writes_but_not_the_site() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(story());
        return;
    }
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
    let mounts = |namespace: &&&[&str]| {
        let tried = Command::new("unshare")
            .args(**namespace)
            .args(["mount", "-t", "tmpfs", "none", "/mnt"])
            .status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(namespace) = namespaces.iter().find(mounts) else {
        panic!(
            "this test fills a small disk of its own, and nothing may be mounted here: run it as root, or where \
             `unshare --map-root-user --mount` works (util-linux, user namespaces allowed)"
        );
    };
    let own = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(*namespace)
        .arg(own)
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("it is started");
    let (said, warned) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{said}");
    assert!(output.status.success(), "{warned}");
    assert!(
        said.contains("1 passed"),
        "it did not run in the namespace: {said}{warned}"
    );
}

async fn story() {
    let mut plan = Plan::new(1);
    let disk = SmallDisk::mount(plan.directory.path());
    let config = &mut plan.configs[0];
    config.data = disk.path.join("data");
    config.disk.reserve_mib = 8;
    config.disk.free_min_mib = 4;
    let site = plan.start(0).await;
    let mut answered = Vec::new();
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let address = format!("person{number}@example.org");
        let (account, dot) = site.client.sign_up(&address).await.expect("there is room");
        people.push(Person { address, account });
        answered.push(dot);
    }
    let (leavers, stayers) = people.split_at(PEOPLE / 2);
    let mut leavers = leavers.iter();
    assert_eq!(disk_state(&site).await, "ok");
    assert_eq!(
        fs::metadata(plan.configs[0].data.join("reserve"))
            .expect("a reserve")
            .len(),
        8 << 20
    );

    println!("Little room is left: no new people, everything else for those who are here.");
    let mut ballast = vec![Ballast::down_to(&disk, "first", 3 << 20)];
    let mut strangers = 0;
    let refused = loop {
        match site
            .client
            .sign_up(&format!("stranger{strangers}@example.org"))
            .await
        {
            Ok((_, dot)) => answered.push(dot),
            Err(refused) => break refused,
        }
        strangers += 1;
        assert!(strangers < 1000, "sign-ups are never refused");
    };
    assert_eq!(refused.code(), "disk-nearly-full", "{refused:?}");
    assert!(
        free_bytes(&disk.path).expect("room") > 0,
        "refused before it is full"
    );
    assert_eq!(disk_state(&site).await, "nearly-full");
    let added = site
        .client
        .add_email(&stayers[0].account, "second@example.org")
        .await
        .expect("an address");
    answered.extend(added);
    assert_all_sign_in(&site, stayers).await;

    println!("No room is left: only what frees or protects, from the reserve.");
    ballast.push(Ballast::down_to(&disk, "second", 0));
    let refused = write_until_refused(&site, stayers, &mut answered).await;
    assert_eq!(refused.code(), "disk-full", "{refused:?}\n{}", site.log.text());
    assert_all_sign_in(&site, stayers).await;
    let full = async || (disk_state(&site).await == "full").then_some(());
    site.eventually("the disk is said to be full", full).await;
    let refused = site
        .client
        .sign_up("late@example.org")
        .await
        .expect_err("no room for new people");
    assert_eq!(refused.code(), "disk-full", "{refused:?}");
    let leaver = leavers.next().expect("someone");
    let cancelled = site.client.cancel(&leaver.account).await;
    answered.extend(cancelled.unwrap_or_else(|error| panic!("{error:?}\n{}", site.log.text())));
    // A wrong password cannot be counted now, so it is not even called wrong.
    let refused = site.client.sign_in(&leaver.address).await.expect_err("cancelled");
    assert!(
        ["wrong-password", "disk-full"].contains(&refused.code()),
        "{refused:?}"
    );

    println!("The reserve is used up as well.");
    ballast.push(Ballast::down_to(&disk, "third", 0));
    let mut in_doubt = Vec::new();
    for leaver in leavers {
        match site.client.cancel(&leaver.account).await {
            Ok(dot) => answered.extend(dot),
            Err(refused) => {
                assert!(
                    ["disk-full", "unavailable"].contains(&refused.code()),
                    "{refused:?}"
                );
                in_doubt.push(leaver);
            }
        }
        assert_all_sign_in(&site, &stayers[..3]).await;
    }
    println!(
        "{} cancellations were still taken, {} not",
        PEOPLE / 2 - in_doubt.len(),
        in_doubt.len()
    );
    let refused = reset_until_refused(&site, stayers, &mut answered).await;
    assert!(
        ["disk-full", "unavailable"].contains(&refused.code()),
        "{refused:?}"
    );
    // Also while the store cannot be opened for writing, which is tried again and again.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_all_sign_in(&site, stayers).await;
    }
    assert!(site.is_alive());

    let tries = site.log.text().matches("could not be reopened").count();
    println!("the store could not be reopened for writing {tries} times; people signed in all the while");

    println!("Room again: everything is as before.");
    drop(ballast);
    let made = async || site.client.sign_up("after@example.org").await.ok();
    let (account, dot) = site.eventually("sign-ups are taken again", made).await;
    answered.push(dot);
    assert!(
        plan.configs[0].data.join("reserve").exists(),
        "the reserve is taken back"
    );
    assert_eq!(disk_state(&site).await, "ok");
    answered.extend(
        site.client
            .add_email(&account, "another@example.org")
            .await
            .expect("an address"),
    );
    for leaver in in_doubt {
        answered.extend(
            site.client
                .cancel(&leaver.account)
                .await
                .expect("cancelled now, or it was"),
        );
        assert!(site.client.is_not_let_in(&leaver.address).await);
    }
    assert_all_sign_in(&site, stayers).await;
    let (status, _, log) = site.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    let store = plan.open(0);
    assert_sound(&store, &answered);
    store.close();
    drop(store);
    println!("{} writes answered, none lost", answered.len());

    println!("A site that finds its disk full says so.");
    let ballast = Ballast::down_to(&disk, "fourth", 0);
    let site = Site::spawn(&plan.write(0), &plan.configs[0].data);
    let outcome = tokio::select! {
        // With room left in RocksDB's own files it may start, and then serves those who are here.
        () = site.serves() => None,
        line = site.log.says(&["persona: ", "full"]) => Some(line),
    };
    match outcome {
        Some(line) => {
            println!("{line}");
            assert_eq!(site.ended().await.0.code(), Some(1));
        }
        None => {
            assert_all_sign_in(&site, stayers).await;
            site.kill().await;
        }
    }
    drop(ballast);
    let site = plan.start(0).await;
    assert_all_sign_in(&site, stayers).await;
    site.stop().await;
    assert_sound(&plan.open(0), &answered);
}

struct Person {
    address: String,
    account: String,
}

async fn disk_state(site: &Site) -> String {
    let status = site.client.get("/status").await.expect("its status");
    status["disk"]["state"].as_str().expect("a state").to_owned()
}

async fn assert_all_sign_in(site: &Site, people: &[Person]) {
    for person in people {
        let signed_in = site.client.sign_in(&person.address).await;
        let signed_in =
            signed_in.unwrap_or_else(|error| panic!("{}: {error:?}\n{}", person.address, site.log.text()));
        assert_eq!(signed_in["account"], person.account.as_str());
    }
}

/// Ordinary writes, one after another, until one is refused.
async fn write_until_refused(site: &Site, people: &[Person], answered: &mut Vec<gossip::Dot>) -> Failure {
    for number in 0..WRITES_MAX {
        let account = &people[number % people.len()].account;
        match site.client.sign_out_everywhere(account).await {
            Ok(dot) => answered.extend(dot),
            Err(refused) => {
                println!("{number} writes fitted into what RocksDB had set aside");
                return refused;
            }
        }
    }
    panic!("a full disk took {WRITES_MAX} writes");
}

/// Writes that protect, one after another, until one is refused.
async fn reset_until_refused(site: &Site, people: &[Person], answered: &mut Vec<gossip::Dot>) -> Failure {
    for number in 0..WRITES_MAX {
        let body = json!({ "address": people[number % people.len()].address, "password": PASSWORD });
        match site.client.post("/password-reset", body).await {
            Ok(answer) => answered.extend(written(&answer)),
            Err(refused) => {
                println!("{number} resets fitted in without the reserve");
                return refused;
            }
        }
    }
    panic!("a full disk took {WRITES_MAX} resets");
}

/// A small file system, unmounted when this goes.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(directory: &Path) -> SmallDisk {
        let path = directory.join("disk");
        fs::create_dir(&path).expect("a directory");
        let wanted = std::env::var("PERSONA_DISK").unwrap_or_default();
        let kinds = match wanted.as_str() {
            "" => vec!["ext4", "tmpfs"],
            kind => vec![kind],
        };
        let mounted = kinds.iter().find(|kind| match **kind {
            "ext4" => mount_ext4(directory, &path),
            "tmpfs" => run(
                "mount",
                &["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "none"],
                &path,
            ),
            other => panic!("PERSONA_DISK is ext4 or tmpfs, not {other}"),
        });
        let Some(kind) = mounted else {
            panic!("could not mount any of {kinds:?}, though the namespace allows it")
        };
        println!("the disk is {DISK_MIB} MiB of {kind}");
        SmallDisk { path }
    }
}

fn mount_ext4(directory: &Path, path: &Path) -> bool {
    let image = directory.join("image");
    File::create(&image)
        .and_then(|file| file.set_len(DISK_MIB << 20))
        .expect("an image");
    // No blocks that only root may use: the site would use them here, and nowhere else.
    run("mkfs.ext4", &["-q", "-m", "0"], &image)
        && run(
            "mount",
            &["-o", "loop", image.to_str().expect("a path in UTF-8")],
            path,
        )
}

fn run(program: &str, arguments: &[&str], last: &Path) -> bool {
    Command::new(program)
        .args(arguments)
        .arg(last)
        .output()
        .is_ok_and(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], &self.path);
    }
}

/// A file that takes room; removed when this goes.
struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Leaves about so many bytes free; with none, not a block.
    fn down_to(disk: &SmallDisk, name: &str, free: u64) -> Ballast {
        let path = disk.path.join(name);
        let mut file = File::create(&path).expect("a file");
        for block in [64 << 10, 4 << 10, 512] {
            let bytes = vec![0x5a; block];
            while free == 0 || free_bytes(&disk.path).expect("room") > free + block as u64 {
                match file.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        // What the file system had only promised.
        match file.sync_all() {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => panic!("{error}"),
            _ => Ballast { path },
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
