//! The description of the API, held against the API by somebody else's program: Schemathesis makes up requests from
//! `/openapi.json`, and looks at the answers. None is a 5xx, none is other than described.

use std::path::{Path, PathBuf};

use persona::wsapi::ENDPOINTS;
use tokio::process::Command;

use crate::{
    browser::Browser,
    sites::{PASSWORD, Sites},
};

/// Made-up requests for each call, beside those that are made by rule.
const EXAMPLES: &str = "--max-examples=10";
/// What is looked for. Not that a wrong method is 405: under `/wsapi/` it is 400, as in the original.
const CHECKS: &str = "--checks=not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection";

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wsapi/description.toml");
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wsapi/description.py");

/// Where `deploy/test.sh` puts it: beside what is built.
fn schemathesis() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_persona"));
    let target = built.ancestors().nth(2).expect("a directory");
    let program = target.join("schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "{} is missing: run deploy/test.sh",
        program.display()
    );
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_as_it_is_described_whatever_it_is_asked() {
    let program = schemathesis();
    let sites = Sites::one().await;
    sites.create(0, &["ada@shop.invalid", "ada@work.invalid"]).await;
    let (mut somebody, mut nobody) = (sites.browser(0), sites.browser(0));
    somebody.sign_in("ada@shop.invalid", PASSWORD).await.good();
    let csrf = async |browser: &mut Browser| {
        let context = browser.context().await;
        context["csrf_token"].as_str().expect("a value").to_owned()
    };
    let output = Command::new(program)
        // What it writes down goes with the sites.
        .current_dir(sites.scratch("."))
        .args(["--config-file", CONFIG])
        .args(["run", &format!("{}/openapi.json", sites.url(0))])
        .args([
            EXAMPLES,
            CHECKS,
            "--seed=1",
            "--no-color",
            "--phases=examples,coverage,fuzzing",
        ])
        .env("SCHEMATHESIS_HOOKS", HOOKS)
        .env("PERSONA_SOMEBODYS_CSRF", csrf(&mut somebody).await)
        .env("PERSONA_SOMEBODY", somebody.cookie_header())
        .env("PERSONA_NOBODYS_CSRF", csrf(&mut nobody).await)
        .env("PERSONA_NOBODY", nobody.cookie_header())
        .env("HYPOTHESIS_STORAGE_DIRECTORY", sites.scratch("hypothesis"))
        .kill_on_drop(true)
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // The calls, the verifier and our support document.
    let all = format!("{} selected", ENDPOINTS.len() + 2);
    assert!(said.contains(&all), "not every one was tried: {said}");
    assert_eq!(
        somebody.level().await.as_deref(),
        Some("password"),
        "somebody was signed in to the end"
    );
}
