//! The plot of a served trace, as one HTML page that needs nothing else: pool use and queue
//! over virtual time.

use std::fmt::Display;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Sample, ServeReport};

const WIDTH: u32 = 1_000;
const HEIGHT: u32 = 320;
/// So that the legend has a place above the lines.
const HEADROOM: f64 = 1.3;

const USED: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const CACHED: RGBColor = RGBColor(0xe0, 0x8a, 0x1e);
const WAITING: RGBColor = RGBColor(0xc2, 0x41, 0x1c);
const RUNNING: RGBColor = RGBColor(0x2e, 0x8b, 0x57);

/// The page. `title` is what was served.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use selvedge_scenarios::serving::{ServeConfig, Trace, page, serve};
///
/// let line = r#"{"timestamp": 0, "input_length": 5, "output_length": 3, "hash_ids": [1]}"#;
/// let trace = Trace::read(line.as_bytes(), false)?;
/// let report = serve(&trace, &ServeConfig::default(), &mut |_| ControlFlow::Continue(()))?;
/// let page = page::render("one <request>", &report)?;
/// assert!(page.contains("one &lt;request&gt;") && page.contains("<svg"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What the drawing library says, which draws into memory and so has nothing to complain of.
pub fn render(title: &str, report: &ServeReport) -> Result<String, PlotError> {
    let pool = chart(
        "Blocks of the pool",
        report,
        f64::from(report.pool.blocks) * HEADROOM,
        &[
            Line::new("in use", USED, true, |s| s.used_blocks),
            Line::new("of those, in idle caches", CACHED, true, |s| {
                s.cached_blocks
            }),
        ],
    )?;
    let most = report.peak_waiting.max(report.peak_running).max(1);
    let queue = chart(
        "Requests",
        report,
        f64::from(most) * HEADROOM,
        &[
            Line::new("waiting", WAITING, false, |s| s.waiting),
            Line::new("running", RUNNING, false, |s| s.running),
        ],
    )?;
    let title = escaped(title);
    let rows: String = super::report::rows(report)
        .iter()
        .map(|(what, value)| {
            format!(
                "<tr><th>{}</th><td>{}</td></tr>\n",
                escaped(what),
                escaped(value)
            )
        })
        .collect();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <figure>{pool}</figure>\n<figure>{queue}</figure>\n<table>\n{rows}</table>\n</body>\n</html>\n"
    ))
}

const STYLE: &str = "\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1040px; margin: 1.5rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.25rem; overflow-wrap: anywhere }
figure { margin: 0 0 1rem } svg { width: 100%; height: auto }
table { border-collapse: collapse } th { text-align: left; font-weight: 500 }
th, td { padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
";

/// Why nothing was drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot was not drawn: {0}")]
pub struct PlotError(String);

struct Line {
    name: &'static str,
    colour: RGBColor,
    filled: bool,
    value: fn(&Sample) -> u32,
}

impl Line {
    fn new(name: &'static str, colour: RGBColor, filled: bool, value: fn(&Sample) -> u32) -> Self {
        Line {
            name,
            colour,
            filled,
            value,
        }
    }
}

fn chart(
    caption: &str,
    report: &ServeReport,
    most: f64,
    lines: &[Line],
) -> Result<String, PlotError> {
    let mut svg = String::new();
    draw(&mut svg, caption, report, most, lines).map_err(|error| PlotError(error.to_string()))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    caption: &str,
    report: &ServeReport,
    most: f64,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let end = report.virtual_s.max(1e-3);
    let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("virtual seconds")
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .light_line_style(TRANSPARENT)
        .axis_desc_style(
            ("sans-serif", 13)
                .into_text_style(&area)
                .pos(Pos::new(HPos::Center, VPos::Top)),
        )
        .draw()?;
    for line in lines {
        let points = stairs(&report.series, line.value, end);
        let colour = line.colour;
        let drawn = match line.filled {
            true => chart
                .draw_series(AreaSeries::new(points, 0.0, colour.mix(0.45)).border_style(colour))?,
            false => chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?,
        };
        drawn
            .label(line.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}

/// A value holds until the next sample.
fn stairs(series: &[Sample], value: fn(&Sample) -> u32, end: f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(2 * series.len() + 1);
    for sample in series {
        let (at, value) = (sample.at_ms / 1_000.0, f64::from(value(sample)));
        if let Some(&(_, before)) = points.last()
            && before != value
        {
            points.push((at, before));
        }
        points.push((at, value));
    }
    points.extend(points.last().map(|&(_, value)| (end, value)));
    points
}

fn short(number: &f64) -> String {
    match number.abs() {
        n if n >= 10.0 || n == 0.0 => format!("{number:.0}"),
        n if n >= 1.0 => format!("{number:.1}"),
        _ => format!("{number:.3}"),
    }
}

fn escaped(text: impl Display) -> String {
    text.to_string()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_until_the_next_sample() {
        let sample = |at_ms, used_blocks| Sample {
            at_ms,
            used_blocks,
            ..Sample::default()
        };
        let series = [sample(0.0, 1), sample(1_000.0, 3), sample(2_000.0, 3)];
        let points = stairs(&series, |s| s.used_blocks, 4.0);
        assert_eq!(
            points,
            [(0.0, 1.0), (1.0, 1.0), (1.0, 3.0), (2.0, 3.0), (4.0, 3.0)]
        );
        assert_eq!(stairs(&[], |s| s.used_blocks, 4.0), []);
    }
}
