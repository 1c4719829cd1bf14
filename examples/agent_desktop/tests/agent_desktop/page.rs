//! What an agent sees in the browser: a headless Chromium logs in against the simulator, as an agent would.

use genesys_scripts::simulator::Simulator;

use super::browser::Browser;
use super::serving::Serving;

/// What the page shows: state, why, name and pages.
const SHOWN: &str = r#"["state", "why", "name", "pages"].map(id => document.getElementById(id).textContent)"#;

async fn shown(browser: &mut Browser, state: &str) -> [String; 3] {
    browser.until(&format!("document.getElementById('state').textContent === '{state}'")).await;
    let told = browser.value(SHOWN).await;
    [1, 2, 3].map(|part| told[part].as_str().unwrap().to_owned())
}

async fn click(browser: &mut Browser, id: &str) {
    browser.value(&format!("document.getElementById('{id}').click()")).await;
}

/// As a person would, who takes another one from the list.
async fn choose(browser: &mut Browser, script: &str) {
    let choose = "const list = document.getElementById('scripts'); list.value = id; list.onchange()";
    browser.value(&format!("(id => {{ {choose} }})('{script}')")).await;
}

#[tokio::test]
async fn an_agent_logs_in_and_sees_its_script_fresh_stale_or_why_not() {
    let Some(mut browser) = Browser::start().await else { return };
    let simulator = Simulator::builder().start().await.unwrap();
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &[]).await;
    browser.look(390, "light").await;
    browser.open(&serving.url).await;
    let is_out = "!document.getElementById('out').hidden && document.getElementById('in').hidden";
    browser.until(is_out).await;
    click(&mut browser, "login").await;

    let [why, name, pages] = shown(&mut browser, "fresh").await;
    assert_eq!(why, "as it is now");
    assert!(!name.is_empty() && !pages.is_empty(), "{name}: {pages}");
    assert_eq!(browser.value("document.getElementById('scripts').length").await, 20);
    assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth").await, true, "on a phone");
    // Neither the code of the login nor the session is where scripts, or whoever looks over a shoulder, can see them.
    assert_eq!(browser.value("[location.pathname + location.search, document.cookie].join('')").await, "/");

    simulator.set_down(true);
    click(&mut browser, "show").await;
    let [why, still, _] = shown(&mut browser, "stale").await;
    assert!(why.starts_with("as it was ") && why.ends_with(" s ago: Genesys Cloud cannot be asked"), "{why}");
    assert_eq!(still, name);

    let ids = simulator.script_ids();
    let other = browser.value("document.getElementById('scripts').value").await == *ids[0];
    choose(&mut browser, &ids[usize::from(other)]).await;
    let [why, name, pages] = shown(&mut browser, "failed").await;
    assert!(why.starts_with("Genesys Cloud is busy, try again later, in "), "{why}");
    assert!(why.contains("(correlation id "), "what support asks for: {why}");
    assert_eq!([name, pages], ["", ""], "never another script than the one that was chosen");

    simulator.set_down(false);
    click(&mut browser, "show").await;
    let [_, name, _] = shown(&mut browser, "fresh").await;
    assert!(!name.is_empty());

    // What the page did not expect is on the console; that an answer was 401 or 503 is there too, and expected.
    let mut complaints = browser.complaints();
    complaints.retain(|complaint| !complaint.starts_with("Failed to load resource"));
    assert!(complaints.is_empty(), "{complaints:?}");
    click(&mut browser, "logout").await;
    browser.until(is_out).await;
    browser.open(&serving.url).await;
    browser.until(is_out).await;
    drop(serving);
    browser.value("start()").await;
    let [why, ..] = shown(&mut browser, "failed").await;
    assert_eq!(why, "the desktop's backend gave no answer");
    browser.close().await;
}

#[tokio::test]
async fn whoever_opens_the_page_while_the_service_is_down_sees_why_and_can_try_again() {
    let Some(mut browser) = Browser::start().await else { return };
    let simulator = Simulator::builder().start().await.unwrap();
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &[]).await;
    browser.open(&format!("{}/login", serving.url)).await;
    shown(&mut browser, "fresh").await;
    simulator.set_down(true);
    browser.open(&serving.url).await;
    let [why, name, _] = shown(&mut browser, "failed").await;
    assert!(why.starts_with("Genesys Cloud is busy, try again later"), "{why}");
    assert_eq!(name, "");
    simulator.set_down(false);
    click(&mut browser, "show").await;
    shown(&mut browser, "fresh").await;
    browser.close().await;
}
