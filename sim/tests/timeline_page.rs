//! The page for a browser, as far as that can be seen without one; `chromium.rs` has one.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod traces;

use proptest::prelude::*;
use selvedge_sim::timeline;
use selvedge_sim::trace::{Operation, Site};
use traces::arbitrary::{any_trace, words};

/// The JSON between two marks of the page.
fn data_of(page: &str) -> serde_json::Value {
    let from = page.split("id=\"data\">").nth(1).unwrap();
    let json = from.split("</script>").next().unwrap();
    serde_json::from_str(json).unwrap()
}

fn no_source(_: &Site) -> Option<String> {
    None
}

#[test]
fn the_page_shows_lines_of_source() {
    let mut trace = traces::lost_update();
    let line = line!() - 1;
    for event in &mut trace.events {
        event.site = Site {
            file: file!().to_owned(),
            line,
        };
    }
    let page = timeline::html(&trace, "a title", &timeline::source_line);
    let site = &data_of(&page)["sites"][0];
    assert_eq!(site["line"], line);
    let lines = site["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[3][0], line);
    assert_eq!(lines[3][1], "    let mut trace = traces::lost_update();");
}

#[test]
fn nothing_in_a_trace_becomes_markup() {
    let evil = "</script><script>boom()</script><!-- {{data}} & \"quoted\"";
    let mut trace = traces::lost_update();
    trace.events[3].text = evil.to_owned();
    trace.events[3].operation = Operation::Note;
    trace.events[4].site.file = evil.to_owned();
    trace.objects[0].of = evil.to_owned();
    trace.failure.as_mut().unwrap().detail = evil.to_owned();
    let source = |_: &Site| Some(evil.to_owned());
    let page = timeline::html(&trace, evil, &source);
    let plain = timeline::html(&traces::lost_update(), "a title", &no_source);
    for mark in ["<script", "</script", "<!--", "<title"] {
        assert_eq!(
            page.matches(mark).count(),
            plain.matches(mark).count(),
            "{mark}"
        );
    }
    assert!(
        page.contains("<title>&lt;/script&gt;&lt;script&gt;boom()"),
        "{page}"
    );
    let data = data_of(&page);
    assert_eq!(data["failure"]["detail"], evil);
    assert!(data["events"][3]["say"].as_str().unwrap().contains(evil));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = timeline::html(&traces::deadlock(), "a title", &no_source);
    assert!(page.contains("default-src 'none'"));
    for mark in ["src=", "href=", "@import", "fetch(", "import("] {
        assert!(!page.contains(mark), "{mark}");
    }
    // The names of namespaces are no addresses.
    let named = page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(
        page.matches("http").count(),
        named + page.matches("http-equiv").count()
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_trace_is_a_page(trace in any_trace(), title in words()) {
        let odd = |site: &Site| site.line.is_multiple_of(2).then(|| format!("<{}>", site.file));
        let page = timeline::html(&trace, &title, &odd);
        let data = data_of(&page);
        prop_assert_eq!(data["events"].as_array().unwrap().len(), trace.events.len());
        prop_assert_eq!(page.matches("</script").count(), 3);
        for span in data["spans"].as_array().unwrap() {
            prop_assert!(span["from"].as_u64() <= span["to"].as_u64());
            prop_assert!(span["to"].as_u64().unwrap() <= trace.events.len() as u64);
        }
    }
}
