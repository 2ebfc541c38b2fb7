//! Opens the demo report in a real browser without a network, and asks the page what went wrong.
//!
//! Without `chromium` the test says so and passes, unless `MOESCOPE_REQUIRE_BROWSER=1`.

mod demo;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use moescope_report::write_html;

/// Figures of the demo that hold a number.
const CHARTS: usize = 10;

#[test]
fn the_page_draws_everything_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    write_html(&demo::report(), &page).unwrap();
    let Some(document) = rendered(&page, folder.path(), "1400,900") else { return };
    assert_eq!(attribute(&document, "data-problems"), Some("[]"), "the page reports problems");
    assert_eq!(attribute(&document, "data-ready"), Some(CHARTS.to_string().as_str()), "charts drawn");
    assert!(!document.contains("<title>broken</title>"), "text from a table ran as a script");
    assert_eq!(document.matches("class=\"drawn\"").count(), CHARTS);
}

#[test]
fn hovering_shows_the_words_of_each_datum_and_headings_sort() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    write_html(&demo::report(), &page).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&page, text.replace("</body>", &format!("<script>{PROBE}</script></body>"))).unwrap();
    let Some(document) = rendered(&page, folder.path(), "1400,900") else { return };
    assert_eq!(attribute(&document, "data-problems"), Some("[]"), "the page reports problems");
    assert_eq!(attribute(&document, "data-tips"), Some(CHARTS.to_string().as_str()), "charts with words");
    assert_eq!(attribute(&document, "data-sorted"), Some("MoE|dense"), "losses from both ends");
    assert_eq!(attribute(&document, "data-rows"), Some("96"), "rows after asking for all");
    assert_eq!(attribute(&document, "data-csv"), Some("architecture,loss,loss_low"));
}

#[test]
fn on_a_phone_nothing_is_cut_off_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    write_html(&demo::report(), &page).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&page, text.replace("</body>", &format!("<script>{PHONE}</script></body>"))).unwrap();
    let Some(document) = rendered(&page, folder.path(), "390,900") else { return };
    assert_eq!(attribute(&document, "data-problems"), Some("[]"), "the page reports problems");
    assert_eq!(attribute(&document, "data-cut"), Some(""), "these reach beyond the page or their own box");
    assert_eq!(attribute(&document, "data-mute"), Some(""), "tables that scroll and do not say so");
    assert_eq!(attribute(&document, "data-legend"), Some("40"), "entries of the longest legend");
}

/// Lists what is wider than its place, the tables that hide columns without hint or focus, and the longest legend.
const PHONE: &str = r##"
const watch = setInterval(() => {
  const root = document.documentElement;
  if (!root.dataset.ready) return;
  clearInterval(watch);
  const places = [root, ...document.querySelectorAll(".contents, .contents ol, .card, figure, .grid")];
  const cut = places.filter((place) => place.scrollWidth > place.clientWidth + 1);
  root.dataset.cut = cut.map((place) => place.id || place.className || place.tagName).join(" ");
  const tables = [...document.querySelectorAll(".grid")].filter((grid) => {
    const scroll = grid.querySelector(".scroll");
    const hides = scroll.scrollWidth > scroll.clientWidth + 1;
    const says = !grid.querySelector(".hint").hidden && scroll.tabIndex === 0;
    return hides !== says;
  });
  root.dataset.mute = tables.map((grid) => grid.id).join(" ");
  const texts = [...document.querySelectorAll("#section-hostile--section--figure-many .chart text")];
  root.dataset.legend = texts.filter((text) => /^expert \d+$/.test(text.textContent)).length;
}, 50);
"##;

/// Points at the first datum of every chart, sorts a table both ways, and asks for all rows and for the file.
const PROBE: &str = r##"
const watch = setInterval(() => {
  const root = document.documentElement;
  if (!root.dataset.ready) return;
  clearInterval(watch);
  let tips = 0;
  for (const place of document.querySelectorAll(".chart")) {
    const chart = echarts.getInstanceByDom(place);
    chart.getOption().series.forEach((series, seriesIndex) => {
      if (!series.silent) chart.dispatchAction({ type: "showTip", seriesIndex, dataIndex: 0 });
    });
    if (place.querySelector(".words div")) tips += 1;
  }
  root.dataset.tips = tips;
  const table = document.getElementById("section-wide-table-loss_by_arm");
  const [, loss] = table.querySelectorAll("th button");
  const first = () => table.querySelector("tbody td").textContent;
  loss.click();
  const least = first();
  loss.click();
  root.dataset.sorted = `${least}|${first()}`;
  const load = document.getElementById("section-paths-table-load");
  load.querySelector(".tools button").click();
  root.dataset.rows = load.querySelectorAll("tbody tr").length;
  URL.createObjectURL = (blob) => {
    blob.text().then((text) => { root.dataset.csv = text.split("\r\n")[0].split(",").slice(0, 3).join(","); });
    return "#";
  };
  table.querySelector(".tools button").click();
}, 50);
"##;

/// The document after its scripts have run; none when there is no browser.
fn rendered(page: &Path, profile: &Path, window: &str) -> Option<String> {
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=60000",
        "--dump-dom",
    ];
    let mut command = Command::new("chromium");
    command.args(arguments).arg(format!("--window-size={window}"));
    command.arg(format!("--user-data-dir={}", profile.join("profile").display()));
    match command.arg(format!("file://{}", page.display())).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!("chromium failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(reason) => {
            let required = std::env::var_os("MOESCOPE_REQUIRE_BROWSER").is_some_and(|v| v == "1");
            assert!(!required, "MOESCOPE_REQUIRE_BROWSER=1, but chromium does not start: {reason}");
            // Straight to the stream: what a test prints is shown only when it fails, and this should be seen.
            let line = format!(
                "SKIPPED: chromium does not start ({reason}), so the page was not opened in a browser\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

/// The value of an attribute of `<html>`.
fn attribute<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let tag = &document[document.find("<html")?..];
    let tag = &tag[..tag.find('>')?];
    let rest = &tag[tag.find(&format!("{name}=\""))? + name.len() + 2..];
    rest.split('"').next()
}
