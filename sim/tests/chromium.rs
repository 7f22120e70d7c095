//! The page in a real browser: it draws what there is to draw, and no script fails.
//!
//! Runs where a Chromium is found, by `$CHROMIUM` or on the path, and says so where none is.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod traces;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_sim::timeline;
use selvedge_sim::trace::{Operation, Trace};

/// A browser that has not shown a page by then never will.
const LIMIT: Duration = Duration::from_secs(120);

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        assert!(
            path.is_file(),
            "$CHROMIUM names {}, which is no file; unset it, or name a Chromium",
            path.display()
        );
        return Some(path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let paths = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| path.is_file())
}

/// What the page is once its script has run; `None` where there is no browser.
fn load(trace: &Trace, title: &str) -> Option<String> {
    load_and(trace, title, "")
}

/// The same, with a script of the test's own run after the page's.
fn load_and(trace: &Trace, title: &str, script: &str) -> Option<String> {
    let Some(browser) = browser() else {
        // Past libtest, which shows nothing of a test that passes.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED: no chromium, chromium-browser or google-chrome on the path, and $CHROMIUM \
              is not set; the page was not tried in a browser\n",
        );
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let drawn = timeline::html(trace, title, &timeline::source_line);
    fs::write(&page, format!("{drawn}<script>{script}</script>")).unwrap();
    let mut child = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Read beside the wait: a full pipe would stop the browser.
    let mut pipe = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut dom = Vec::new();
        pipe.read_to_end(&mut dom)
            .map(|_| String::from_utf8_lossy(&dom).into_owned())
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser did not show the page within {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "the browser ended with {status}");
    let dom = reader.join().unwrap().unwrap();
    let root = dom
        .lines()
        .find(|line| line.starts_with("<html"))
        .unwrap_or(&dom);
    assert!(!root.contains("data-errors"), "a script failed: {root}");
    assert!(
        root.contains("data-ready=\"true\""),
        "not drawn to the end: {root}"
    );
    Some(dom)
}

fn count(dom: &str, what: &str) -> usize {
    dom.matches(what).count()
}

#[test]
fn a_deadlock_is_drawn_with_its_cycle() {
    let trace = traces::deadlock();
    let Some(dom) = load(&trace, "a deadlock of three") else {
        return;
    };
    assert_eq!(count(&dom, "class=\"lane\""), trace.tasks.len());
    assert_eq!(count(&dom, "class=\"event"), trace.events.len());
    assert_eq!(count(&dom, "class=\"bar held open\""), 3);
    assert_eq!(count(&dom, "class=\"bar waiting open\""), 4);
    assert_eq!(count(&dom, "class=\"arrow spawn\""), 3);
    assert_eq!(count(&dom, "class=\"banner\""), 2, "critical switches");
    assert_eq!(count(&dom, "class=\"cycle-node\""), 3);
    assert_eq!(count(&dom, "class=\"cycle-edge\""), 3);
    assert!(dom.contains("waits to lock M2, held by 0.1"));
}

#[test]
fn every_kind_of_event_is_drawn() {
    let trace = traces::everything();
    let Some(dom) = load(&trace, "everything") else {
        return;
    };
    assert_eq!(count(&dom, "class=\"lane\""), trace.tasks.len());
    assert_eq!(count(&dom, "class=\"event"), trace.events.len());
    assert_eq!(count(&dom, "class=\"bar held\""), 4);
    assert_eq!(count(&dom, "class=\"bar shared\""), 2);
    assert_eq!(count(&dom, "class=\"bar waiting\""), 4);
    for (arrow, number) in [("spawn", 2), ("join", 2), ("unpark", 1), ("notify", 1)] {
        assert_eq!(
            count(&dom, &format!("class=\"arrow {arrow}\"")),
            number,
            "{arrow}"
        );
    }
    assert_eq!(count(&dom, "class=\"cycle-node\""), 0);
}

#[test]
fn what_looks_like_markup_is_drawn_as_words() {
    let evil = "</script><img src=x onerror=\"document.title='pwned'\"><!--";
    let mut trace = traces::message_passing();
    trace.events[2].operation = Operation::Note;
    trace.events[2].text = evil.to_owned();
    trace.objects[0].of = evil.to_owned();
    trace.events[3].site.file = evil.to_owned();
    if let Some(failure) = &mut trace.failure {
        failure.detail = evil.to_owned();
        failure.signature = evil.to_owned();
    }
    let Some(dom) = load(&trace, evil) else {
        return;
    };
    assert_eq!(count(&dom, "<img"), 0);
    assert_eq!(count(&dom, "class=\"lane\""), trace.tasks.len());
    assert_eq!(count(&dom, "class=\"event"), trace.events.len());
}

#[test]
fn an_empty_trace_and_one_of_strangers_are_drawn_too() {
    if load(&Trace::default(), "nothing").is_none() {
        return;
    }
    // Places that lead nowhere, as in a file that somebody edited.
    let mut trace = traces::everything();
    trace.tasks.truncate(1);
    trace.objects.truncate(1);
    trace.events[5].peer = Some(u32::MAX);
    trace.events[6].since = u32::MAX;
    let dom = load(&trace, "strangers").unwrap_or_default();
    assert_eq!(
        count(&dom, "class=\"lane\""),
        2,
        "the root and one for all others"
    );
    assert_eq!(count(&dom, "class=\"event"), trace.events.len());
}

#[test]
fn of_a_long_execution_only_what_can_be_seen_is_drawn() {
    let mut trace = traces::everything();
    let events = trace.events.clone();
    for _ in 0..200 {
        trace.events.extend(events.iter().cloned());
    }
    let Some(dom) = load(&trace, "long") else {
        return;
    };
    let drawn = count(&dom, "class=\"event");
    assert!(
        (20..500).contains(&drawn),
        "{drawn} of {}",
        trace.events.len()
    );
}

#[test]
fn a_world_is_drawn_with_lives_faults_and_times() {
    use selvedge_sim::world::{Faults, Mutant, World, WorldConfig};

    let runs = (0..100).map(|seed| {
        let config = WorldConfig {
            mutant: Mutant::NoFlush,
            ..WorldConfig::swarm(seed)
        };
        World::new(config).unwrap().run()
    });
    let failed = runs
        .into_iter()
        .find(|run| run.violation.is_some())
        .unwrap();
    let smaller = failed.shrink(300).unwrap().report;
    assert!(matches!(smaller.config.faults, Faults::Plan(_)));
    let mut trace = smaller.recorded().trace();
    trace.mark_faults(&vec![Some(true); smaller.plan.faults.len()]);
    let Some(dom) = load(&trace, "a world") else {
        return;
    };
    assert_eq!(count(&dom, "class=\"lane\""), trace.tasks.len());
    assert!(count(&dom, "class=\"bar life") >= trace.tasks.len() - 1);
    let faults = trace.timed.unwrap().faults.len();
    assert!(faults > 0);
    assert_eq!(count(&dom, "class=\"banner\""), faults, "critical faults");
    assert!(count(&dom, "class=\"bar fault") >= faults);
    assert_eq!(count(&dom, "class=\"event failing"), 1);
    assert!(dom.contains(">0.000000 s<"), "the time of the first event");
}

#[test]
fn keys_wheel_and_pointer_do_what_they_should() {
    let script = r##"
        const view = document.getElementById("view"), tried = [];
        const press = (key) => view.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const chosen = () => { const it = document.querySelector(".chosen"); return it && (it.dataset.event || "stuck " + it.dataset.stuck); };
        const scale = () => document.getElementById("scale").textContent;
        const told = () => document.querySelector("#about h3").textContent;
        const at = (place) => document.querySelector(`[data-event="${place}"]`);
        tried.push(chosen());
        press("c"); tried.push(chosen());
        press("ArrowDown"); tried.push(chosen());
        press("ArrowLeft"); tried.push(chosen());
        press("Home"); tried.push(chosen());
        press("End"); tried.push(chosen());
        press("+"); tried.push(scale());
        document.getElementById("out").click(); tried.push(scale());
        view.dispatchEvent(new WheelEvent("wheel", { deltaY: -100, ctrlKey: true, bubbles: true, cancelable: true })); tried.push(scale());
        press("0"); tried.push(scale());
        at(3).dispatchEvent(new PointerEvent("pointerover", { bubbles: true })); tried.push(told());
        view.dispatchEvent(new PointerEvent("pointerleave")); tried.push(told());
        at(4).focus(); tried.push(chosen());
        at(5).querySelector("text").dispatchEvent(new MouseEvent("click", { bubbles: true })); tried.push(chosen());
        document.documentElement.dataset.tried = tried.join("; ");
    "##;
    let Some(dom) = load_and(&traces::lost_update(), "a lost update", script) else {
        return;
    };
    let tried = dom.split("data-tried=\"").nth(1).unwrap();
    let tried: Vec<&str> = tried.split('"').next().unwrap().split("; ").collect();
    let wanted = [
        "13",
        "4",
        "5",
        "4",
        "0",
        "13",
        "125%",
        "100%",
        "125%",
        "100%",
        "#4 0.0: load A1 = 0",
        "#14 0: FAIL lost-update",
        "4",
        "5",
    ];
    assert_eq!(tried, wanted);
}
