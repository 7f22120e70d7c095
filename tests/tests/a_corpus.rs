//! The corpus of regressions, replayed before anything else of this package: cargo runs a
//! package's test binaries in the order of their names, hence the `a_`, and goes no further when
//! one fails. So a bug that is back is told in seconds and by its name, and not by whichever
//! search meets it first. The unit tests of core, models, scenarios and sim come earlier still,
//! as cargo goes through the packages by name; they run no scenario of the catalogue.
#![cfg(not(loom_run))]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{code, run, stderr, stdout};
use selvedge_scenarios::all;
use selvedge_sim::{DecisionLog, Engine, Seed, Variant};
use serde_json::Value;
use tempfile::TempDir;

const SCENARIO: &str = "pool-check-then-act";

fn regressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

/// The whole corpus, replayed once for all tests here: the exit code, the JSON, and what was said.
fn replayed() -> &'static (i32, Value, String) {
    static REPLAYED: OnceLock<(i32, Value, String)> = OnceLock::new();
    REPLAYED.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = regressions();
        let args = ["corpus", "run", "--json", "out.json", "--dir"];
        let output = run(
            dir.path(),
            &[&args[..], &[folder.to_str().expect("the path is UTF-8")]].concat(),
        );
        let json = fs::read_to_string(dir.path().join("out.json")).unwrap_or_default();
        let json = serde_json::from_str(&json).unwrap_or_default();
        (code(&output), json, stderr(&output))
    })
}

#[test]
fn every_regression_holds() {
    let (exit, json, said) = replayed();
    let rows = json["regressions"].as_array().expect(said);
    let wrong: Vec<String> = (rows.iter())
        .filter(|row| row["as_expected"] != true)
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            format!("{} is {}: {}", text("name"), text("outcome"), text("why"))
        })
        .collect();
    assert!(
        wrong.is_empty() && said.is_empty(),
        "{said}{}",
        wrong.join("\n")
    );
    assert_eq!(*exit, 0);
}

#[test]
fn every_twin_that_an_engine_must_find_has_a_regression() {
    let (_, json, said) = replayed();
    let of = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let kept: BTreeSet<(String, String)> = (json["regressions"].as_array().expect(said).iter())
        .filter(|row| row["expect"] == "fails")
        .map(|row| (of(row, "scenario"), of(row, "engine")))
        .collect();
    let wanted = all().into_iter().flat_map(|scenario| {
        let found = (scenario.engines.iter()).filter(|plan| scenario.is_kept(plan));
        found.map(|plan| (scenario.id.to_owned(), plan.engine.name().to_owned()))
    });
    let missing: Vec<String> = wanted
        .filter(|twin| !kept.contains(twin))
        .map(|(scenario, engine)| {
            format!(
                "{scenario} under {engine} has no regression: \
                 cargo run --release -- corpus add --twins {scenario}"
            )
        })
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn this_is_the_first_binary_of_its_package() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut names: Vec<String> = (fs::read_dir(tests).unwrap())
        .map(|found| found.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".rs"))
        .collect();
    names.sort();
    assert_eq!(names[0], "a_corpus.rs");
}

/// A corpus of one scenario's regressions, as they are kept, in a folder of its own.
struct Small {
    dir: TempDir,
}

impl Small {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let small = Small { dir };
        fs::create_dir(small.path("corpus")).expect("there is room");
        let kept = regressions().join(format!("{SCENARIO}.toml"));
        fs::copy(kept, small.file()).expect("it is kept");
        small
    }

    /// One that holds nothing yet.
    fn empty() -> Self {
        let small = Small::new();
        fs::remove_file(small.file()).expect("it is there");
        small
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("corpus").join(format!("{SCENARIO}.toml"))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("it is there")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).expect("there is room");
    }

    /// Runs `corpus` on it: the exit code, and all that was said.
    fn corpus(&self, args: &[&str]) -> (i32, String) {
        let args = [&["corpus"], args, &["--dir", "corpus"]].concat();
        let output = run(self.dir.path(), &args);
        (code(&output), stdout(&output) + &stderr(&output))
    }

    /// The seed that is kept of an engine, as it stands there.
    fn seed(&self, engine: &str) -> String {
        let text = self.text();
        let mut seeds = text
            .lines()
            .filter_map(|line| line.strip_prefix("seed = \""));
        let of = format!("sv2.{SCENARIO}.as-reported.{engine}");
        let seed = seeds
            .find(|seed| seed.starts_with(&of))
            .expect("it is kept");
        seed.trim_end_matches('"').to_owned()
    }

    /// The same corpus with another seed of an engine.
    fn with(&self, engine: &str, change: impl FnOnce(&mut Seed)) {
        let old = self.seed(engine);
        let mut seed: Seed = old.parse().expect("a seed");
        change(&mut seed);
        self.write(&self.text().replace(&old, &seed.to_string()));
    }
}

#[test]
fn a_seed_that_is_not_what_it_was_is_told_and_fails() {
    let ran = |small: &Small| small.corpus(&["run"]);
    let (exit, said) = ran(&Small::new());
    assert_eq!(exit, 0, "{said}");
    assert!(
        said.contains("3 regressions") && said.contains("3 as expected, 0 not"),
        "{said}"
    );

    let stale = Small::new();
    stale.with("explorer", |seed| seed.revision = "00000000".to_owned());
    let (exit, said) = ran(&stale);
    assert_eq!(exit, 14, "{said}");
    let place = format!("corpus/{SCENARIO}.toml:2:8: {SCENARIO}-by-explorer is stale: it was made");
    assert!(said.contains(&place), "{said}");
    assert!(
        said.contains(&format!("corpus add --twins {SCENARIO}")),
        "{said}"
    );
    assert!(said.contains("2 as expected, 1 not"), "{said}");

    let other_steps = Small::new();
    other_steps.with("shuttle", |seed| seed.trace = Some(1));
    let (exit, said) = ran(&other_steps);
    assert_eq!(exit, 14, "{said}");
    assert!(
        said.contains("stale: it fails as it did, by other steps (trace "),
        "{said}"
    );

    let cut = Small::new();
    cut.with("explorer", |seed| {
        let DecisionLog::Schedule(schedule) = &mut seed.log else {
            panic!("the explorer's log is a schedule")
        };
        schedule.steps.truncate(1);
    });
    let (exit, said) = ran(&cut);
    assert_eq!(exit, 14, "{said}");
    assert!(
        said.contains("is stale: ") && said.contains("the log"),
        "{said}"
    );

    let another = Small::new();
    let text = another.text();
    another.write(&text.replace("pop-from-empty-list", "pop-from-full-list"));
    let (exit, said) = ran(&another);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.contains("signature is 'pop-from-full-list', but the seed's is"),
        "{said}"
    );
    for engine in ["explorer", "shuttle"] {
        another.with(engine, |seed| {
            seed.signature = "pop-from-full-list".to_owned();
        });
    }
    let (_, said) = ran(&another);
    assert!(
        said.contains("the twin must be found by 'pop-from-empty-list'"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_read_is_told_by_file_line_and_column() {
    let small = Small::new();
    let text = small.text();
    let file = format!("selvedge: corpus/{SCENARIO}.toml:");
    let of = |text: &str| {
        small.write(text);
        let (exit, said) = small.corpus(&["run"]);
        assert_eq!(exit, 2, "{said}");
        said
    };
    let damaged = small.seed("explorer");
    let said = of(&text.replace(&damaged, &damaged[..damaged.len() - 3]));
    assert!(
        said.contains(&file) && said.contains(":8: the seed is damaged"),
        "{said}"
    );
    assert!(
        said.contains("2 as expected, 0 not"),
        "the others run: {said}"
    );
    let said = of(&text.replacen("found_by", "found_buy", 1));
    assert!(
        said.contains(&file) && said.contains(":1: unknown field `found_buy`"),
        "{said}"
    );
    let said = of(&text.replacen("name = \"", "name = ", 1));
    assert!(said.contains(&format!("{file}2:")), "{said}");
    let said = of(&text.replace(&format!("sv2.{SCENARIO}"), "sv2.gone"));
    assert!(
        said.contains("the seed is damaged"),
        "the head is under the checksum: {said}"
    );

    small.write(&text);
    small.with("shuttle", |seed| seed.scenario = "gone".to_owned());
    let (exit, said) = small.corpus(&["run"]);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.contains("is gone: there is no scenario 'gone' any more"),
        "{said}"
    );

    let (exit, said) = Small::empty().corpus(&["run"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("no regression is kept in corpus"), "{said}");
    let (exit, said) = small.corpus(&["run", "no-such-thing"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("'no-such-thing'"), "{said}");
    let elsewhere = tempfile::tempdir().unwrap();
    for args in [&["run"][..], &["prune"], &["add", "--twins", SCENARIO]] {
        let output = run(elsewhere.path(), &[&["corpus"], args].concat());
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains("tests"), "{}", stderr(&output));
    }
}

#[test]
fn the_twins_regressions_are_made_by_one_command_and_always_the_same() {
    let kept = Small::new().text();
    let small = Small::empty();
    let (exit, said) = small.corpus(&["add", "--twins", SCENARIO]);
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("3 made, 0 hold, 0 missing"), "{said}");
    assert_eq!(small.text(), kept);
    let (_, said) = small.corpus(&["add", "--twins", SCENARIO]);
    assert!(said.contains("0 made, 3 hold, 0 missing"), "{said}");
    assert_eq!(small.text(), kept);

    // Only what is stale is made again, and only it is touched.
    let commented = kept.replacen("signature", "# By hand.\nsignature", 2);
    small.write(&commented);
    small.with("loom", |seed| seed.revision = "00000000".to_owned());
    let (exit, said) = small.corpus(&["add", "--twins", SCENARIO]);
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("1 made, 2 hold"), "{said}");
    assert_eq!(small.text(), commented);
}

#[test]
fn a_seed_is_kept_once_and_only_if_it_fails() {
    let small = Small::new();
    let seeds = ["explorer", "loom", "shuttle"].map(|engine| small.seed(engine));
    fs::remove_file(small.file()).expect("it is there");
    let words = ["--name", "mine", "--why", "nobody looked\nin time"];
    let args = [&["add", &seeds[0]], &words[..]].concat();
    let (exit, said) = small.corpus(&args);
    assert_eq!(exit, 0, "{said}");
    let text = small.text();
    assert!(
        text.contains("name = \"mine\"\n") && text.contains("\nin time"),
        "{text}"
    );
    assert!(
        text.contains(&seeds[0]),
        "what is least already stays as it is"
    );
    let (exit, said) = small.corpus(&["add", &seeds[1], "--as-is"]);
    assert_eq!(exit, 0, "{said}");
    assert!(
        small.text().starts_with(&text),
        "what was there stays where it was"
    );
    let (exit, said) = small.corpus(&["run", SCENARIO]);
    assert_eq!(exit, 0, "{said}");
    let (exit, said) = small.corpus(&["run", "mine"]);
    assert!(exit == 0 && said.contains("1 regressions"), "{said}");

    let before = small.text();
    let refused = |args: &[&str], told: &str| {
        let (exit, said) = small.corpus(&[&["add"], args].concat());
        assert_eq!(exit, 2, "{said}");
        assert!(said.contains(told), "{told}: {said}");
        assert_eq!(small.text(), before);
    };
    refused(&[&seeds[0]], "is kept already, as mine at corpus/");
    refused(&[&seeds[2], "--name", "mine"], "choose another");
    refused(&[&seeds[2], "--name", " "], "there are no words in it");
    refused(&[&seeds[2], "--fixed-in", "0.2"], "leave --fixed-in out");
    refused(&["--twins", "--as-is"], "--as-is");
    refused(&["sv2.hello"], "no seed");
    refused(&[], "--twins");
    let changed = |change: &dyn Fn(&mut Seed)| {
        let mut seed: Seed = seeds[2].parse().unwrap();
        change(&mut seed);
        seed.to_string()
    };
    let stale = changed(&|seed| seed.revision = "00000000".to_owned());
    refused(&[&stale], "stale: it was made for revision 00000000");
    let other = changed(&|seed| seed.trace = Some(1));
    refused(
        &[&other],
        "only what fails can be kept, and this seed is stale",
    );
    let signature = changed(&|seed| seed.signature = "another".to_owned());
    refused(&[&signature], "must be found by 'pop-from-empty-list'");
    let native = changed(&|seed| {
        seed.engine = Engine::Native;
        seed.log = DecisionLog::Workload {
            seed: 1,
            execution: 1,
        };
    });
    refused(&[&native], "may fail or not, so it cannot be kept");
    // One that is stale gives way, and its words stay.
    small.with("explorer", |seed| seed.revision = "00000000".to_owned());
    let (exit, said) = small.corpus(&["add", &seeds[0]]);
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("in the place of a stale seed"), "{said}");
    let found_by = "found_by = \"selvedge corpus add\"";
    assert_eq!(small.text().matches(found_by).count(), 2);
    assert!(small.text().contains("nobody looked"));
}

/// The seed that is kept of a scenario's twin under an engine, as one of the shipped body when that
/// had the bug: the code was another then, and so was its revision.
fn of_shipped(scenario: &str, engine: &str) -> String {
    let file = regressions().join(format!("{scenario}.toml"));
    let text = fs::read_to_string(file).expect("it is kept");
    let seeds = text
        .lines()
        .filter_map(|line| line.strip_prefix("seed = \""));
    let mut seeds = seeds.map(|seed| seed.trim_end_matches('"').parse::<Seed>().expect("a seed"));
    let mut seed = seeds
        .find(|seed| seed.engine.name() == engine)
        .expect("it is kept");
    seed.variant = Variant::Shipped;
    seed.revision = "00000000".to_owned();
    seed.to_string()
}

#[test]
fn a_fixed_bug_is_followed_as_far_as_the_code_allows() {
    let small = Small::empty();
    let fixed = of_shipped("A-RACE-PARTIAL", "shuttle");
    let (exit, said) = small.corpus(&["add", &fixed]);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.contains("stale: it was made for revision 00000000"),
        "{said}"
    );
    let name = ["--fixed-in", "0.1.1", "--name", "fixed"];
    let (exit, said) = small.corpus(&[&["add", &fixed], &name[..]].concat());
    assert_eq!(exit, 0, "{said}");
    // Loom takes no log of other code: it searches instead.
    let loom = of_shipped("E-FORCE-ALPHA", "loom");
    let (exit, said) = small.corpus(&["add", &loom, "--fixed-in", "0.1.1"]);
    assert_eq!(exit, 0, "{said}");

    let (exit, said) = small.corpus(&["run", "--json", "out.json"]);
    assert_eq!(exit, 0, "{said}");
    let json = fs::read_to_string(small.path("out.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let [one, other] = &json["regressions"].as_array().unwrap()[..] else {
        panic!("there are two: {said}")
    };
    let why = |row: &Value| row["why"].as_str().unwrap().to_owned();
    assert_eq!(
        (&one["name"], &one["outcome"]),
        (&"fixed".into(), &"passes".into())
    );
    assert_eq!(one["fixed_in"], "0.1.1");
    assert!(
        why(one).ends_with(" steps, then as the code goes on by itself"),
        "{one}"
    );
    assert_eq!(other["outcome"], "passes");
    assert!(
        why(other).contains(" executions with at most 1 preemptions"),
        "{other}"
    );

    // What the code goes by from the first switch on owes nothing to the seed.
    let useless = of_shipped(SCENARIO, "explorer");
    let (exit, said) = small.corpus(&["add", &useless, "--fixed-in", "0.1.1"]);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.contains("not one of its switches: it guides nothing"),
        "{said}"
    );
}

#[test]
fn pruning_leaves_one_seed_a_bug_that_is_not_stale() {
    let small = Small::new();
    let kept = small.text();
    let (exit, said) = small.corpus(&["prune"]);
    assert_eq!(
        (exit, said.contains("0 of 3 regressions removed")),
        (0, true),
        "{said}"
    );
    assert_eq!(small.text(), kept);
    // The same three again in another file, one of them stale.
    let again = kept.replace("name = \"", "name = \"again-");
    let stale = small.seed("shuttle");
    let mut other: Seed = stale.parse().unwrap();
    other.revision = "00000000".to_owned();
    small.write(&kept.replace(&stale, &other.to_string()));
    fs::write(small.path("corpus/then.toml"), again).unwrap();
    let before = small.text();
    let (exit, said) = small.corpus(&["prune", "--dry-run"]);
    assert_eq!(exit, 0, "{said}");
    assert!(
        said.contains("3 of 6 regressions would be removed"),
        "{said}"
    );
    assert!(
        said.contains("again-pool-check-then-act-by-explorer: the same bug as"),
        "{said}"
    );
    assert!(
        said.contains("pool-check-then-act-by-shuttle: stale, it was made for"),
        "{said}"
    );
    assert_eq!(small.text(), before);
    let (exit, said) = small.corpus(&["prune"]);
    assert_eq!(exit, 0, "{said}");
    let (exit, said) = small.corpus(&["run"]);
    assert_eq!(
        (exit, said.contains("3 as expected, 0 not")),
        (0, true),
        "{said}"
    );
    let then = fs::read_to_string(small.path("corpus/then.toml")).unwrap();
    assert!(
        then.contains("again-pool-check-then-act-by-shuttle"),
        "the one that is not stale"
    );
    assert!(
        !then.contains("by-loom") && !then.contains("by-explorer"),
        "{then}"
    );
    // The last entry takes its file along; what cannot be read is left alone.
    small.with("explorer", |seed| seed.revision = "00000000".to_owned());
    small.with("loom", |seed| seed.revision = "00000000".to_owned());
    let wrong = "[[regression]]\nname = \"wrong\"\n";
    fs::write(small.path("corpus/wrong.toml"), wrong).unwrap();
    let (exit, said) = small.corpus(&["prune"]);
    assert_eq!(
        (exit, said.contains("corpus/wrong.toml:1:1: missing field")),
        (2, true),
        "{said}"
    );
    assert!(!small.file().exists());
    assert_eq!(
        fs::read_to_string(small.path("corpus/wrong.toml")).unwrap(),
        wrong
    );
}
