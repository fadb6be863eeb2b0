//! `jackfield import`: converts templates of CloudFormation, SAM and the Serverless Framework into manifests.
//!
//! The expected manifests are next to the templates in host/tests/import. With `WRITE_EXPECTED=1` the tests replace
//! them with the actual output; read the diff before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Site;

fn template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

/// Returns a folder with a copy of a template.
fn site(name: &str) -> Site {
    let site = Site::new("");
    fs::remove_file(site.manifest()).unwrap();
    fs::copy(template(name), site.path().join(name)).unwrap();
    site
}

/// Returns a folder with a template of this text.
fn site_with(text: &str) -> Site {
    let site = Site::new("");
    fs::write(site.path().join("template.yaml"), text).unwrap();
    site
}

#[test]
fn a_template_is_converted_to_the_expected_manifest() {
    for (name, summary) in [
        ("chat.yaml", "5 routes, 4 integrations; 14 without a counterpart, listed at its end"),
        ("everything.json", "4 routes, 4 integrations, 2 schemas; 41 without a counterpart, listed at its end"),
        ("sam.yaml", "3 routes, 2 integrations; 7 without a counterpart, listed at its end"),
        ("serverless.yml", "4 routes, 2 integrations; 6 without a counterpart, listed at its end"),
        ("mock.yaml", "1 route, 1 integration, 1 schema"),
    ] {
        let site = site(name);
        let (code, stdout, stderr) = site.run(&["import", name, "-o", "jackfield.toml"]);
        assert_eq!(code, 0, "{name}: {stderr}");
        assert_eq!(stdout, format!("created jackfield.toml: {summary}. Next:\n\n  jackfield check jackfield.toml\n"));
        let manifest = fs::read_to_string(site.manifest()).unwrap();
        let expected = template(name).with_extension("toml");
        if std::env::var_os("WRITE_EXPECTED").is_some() {
            fs::write(&expected, &manifest).unwrap();
        }
        assert_eq!(manifest, fs::read_to_string(expected).unwrap(), "{name}");
        // Each warning on stderr is also listed at the end of the manifest.
        for line in stderr.lines() {
            let warning = line.strip_prefix(&format!("warning: {name}:")).unwrap_or_else(|| panic!("{line}"));
            let (place, text) = warning.split_once(' ').unwrap();
            let place = place.trim_end_matches(':');
            let place = if place.is_empty() { "-" } else { place };
            assert!(manifest.contains(&format!("\n# {place:>5}  {text}\n")), "{line}\n{manifest}");
        }
        let list = manifest.lines().skip_while(|line| !line.starts_with("# Without a counterpart, by")).skip(2);
        assert_eq!(stderr.lines().count(), list.count(), "{name}");
    }
}

#[tokio::test]
async fn an_imported_manifest_can_be_served() {
    let site = site("mock.yaml");
    let (code, _, stderr) = site.run(&["import", "mock.yaml", "--output", "jackfield.toml"]);
    assert_eq!((code, &*stderr), (0, ""));
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(stdout, "jackfield.toml is fine: 1 route, 1 integration\n  Greeting  mock  200\n");
    let server = site.serve();
    let mut peer = server.connect("").await;
    let answer = peer.ask(r#"{"action":"hello","name":"Ada"}"#).await;
    assert_eq!(answer, r#"{"hello":"Ada","stage":"blue"}"#);
    let refused = peer.ask(r#"{"action":"hello","name":"much too long for it"}"#).await;
    assert!(refused.contains("Bad request body"), "{refused}");
}

#[test]
fn check_reports_what_is_still_missing_after_an_import() {
    let text = fs::read_to_string(template("chat.yaml")).unwrap();
    let text = text.replace("AuthorizationType: CUSTOM", "AuthorizationType: NONE").replace("AuthorizerType:", "Kind:");
    let text = text.replace("AWS::ApiGatewayV2::Authorizer", "Custom::Nothing");
    let site = site_with(&text);
    assert_eq!(site.run(&["import", "template.yaml", "-o", "chat.toml"]).0, 0);
    let (code, _, stderr) = site.run(&["check", "chat.toml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("[integrations.StoreIntegration] StoreIntegration.wasm: file not found"), "{stderr}");
    let variable = "found the stage variable BillingHost, which the stage prod does not have";
    assert!(stderr.contains(variable), "{stderr}");
}

#[test]
fn without_an_output_the_manifest_goes_to_stdout_and_no_file_is_written() {
    let site = site("mock.yaml");
    let (code, stdout, stderr) = site.run(&["import", "mock.yaml"]);
    assert_eq!((code, &*stderr), (0, ""));
    let expected = fs::read_to_string(template("mock.toml")).unwrap();
    let note = "# The schema files are only written with `--output FILE`.\n[models.hello]";
    assert_eq!(stdout, expected.replace("[models.hello]", note));
    assert_eq!(fs::read_dir(site.path()).unwrap().count(), 1);
}

#[test]
fn parameters_and_the_endpoint_come_from_the_command_line() {
    let arguments =
        ["--parameter", "BillingHost=billing.example", "-p", "Stage=beta", "--endpoint", "http://127.0.0.1:4566"];
    let (code, stdout, stderr) = site("chat.yaml").run(&[&["import", "chat.yaml"], &arguments[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    for line in [
        "id = \"Team-Chat-beta\"",
        "[stages.beta]",
        "url = \"https://billing.example/plans/{plan}\"",
        "endpoint = \"http://127.0.0.1:4566\"",
        "function = \"chat-send-beta:${stageVariables.alias}\"",
    ] {
        assert!(stdout.contains(&format!("{line}\n")), "{line}\n{stdout}");
    }
    assert!(!stdout.contains("3002\"") && !stderr.contains("BillingHost"), "{stdout}{stderr}");
    let (_, stdout, _) = site("serverless.yml").run(&["import", "serverless.yml", "-p", "stage=prod"]);
    assert!(
        stdout.contains("stage = \"prod\"\n") && stdout.contains("function = \"rooms-prod-presence\"\n"),
        "{stdout}"
    );
}

#[test]
fn an_existing_file_is_not_overwritten_without_force() {
    for existing in ["jackfield.toml", "schemas/hello.json"] {
        let site = site("mock.yaml");
        fs::create_dir(site.path().join("schemas")).unwrap();
        fs::write(site.path().join(existing), "mine").unwrap();
        let (code, stdout, stderr) = site.run(&["import", "mock.yaml", "-o", "jackfield.toml"]);
        let expected = format!("error: {existing} already exists; choose another name, or overwrite it with --force\n");
        assert_eq!((code, &*stdout, stderr), (1, "", expected));
        assert_eq!(fs::read_to_string(site.path().join(existing)).unwrap(), "mine");
        let other = if existing == "jackfield.toml" { "schemas/hello.json" } else { "jackfield.toml" };
        assert!(!site.path().join(other).exists(), "if one file cannot be written, none is");
        assert_eq!(site.run(&["import", "mock.yaml", "-o", "jackfield.toml", "--force"]).0, 0);
        assert!(fs::read_to_string(site.path().join(existing)).unwrap().len() > 4);
    }
    // The verb creates no parent folder of the output, so that a typo in its path is an error.
    let site = site("mock.yaml");
    let (code, _, stderr) = site.run(&["import", "mock.yaml", "-o", "nowhere/jackfield.toml"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: cannot write nowhere/schemas/hello.json: "), "{stderr}");
    assert!(!site.path().join("nowhere").exists());
}

#[test]
fn an_invalid_template_is_reported_with_its_place_and_no_file_is_written() {
    let nested = (0..70).map(|level| format!("{}a:", "  ".repeat(level))).collect::<Vec<_>>().join("\n");
    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("b{level}: &a{level} [{names}]\n"));
    }
    for (text, expected) in [
        ("Resources:\n  A: [1, 2\n  B: 3\n", "template.yaml:3:"),
        ("Resources:\n\t- x\n", "template.yaml:2:"),
        (
            "Resources:\n  A: 1\n  A: 2\n",
            "template.yaml:3:1: found the key \"A\" a second time; a template must be YAML or JSON\n",
        ),
        ("", "template.yaml:1:1: found no content; a template must be YAML or JSON\n"),
        ("# only a comment\n", "template.yaml:1:1: found no content; a template must be YAML or JSON\n"),
        (&nested, "template.yaml:65:"),
        (&bomb, "found aliases that expand to more than 4 MiB; a template must be YAML or JSON\n"),
        (
            "swagger: 2\n",
            "template.yaml: found neither the key Resources (CloudFormation, SAM) nor the key functions (serverless.yml)\n",
        ),
        (
            "Resources: { Bucket: { Type: 'AWS::S3::Bucket' } }",
            "template.yaml: found no WebSocket API: expected a resource ",
        ),
    ] {
        let site = site_with(text);
        let (code, stdout, stderr) = site.run(&["import", "template.yaml", "-o", "made.toml"]);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(stderr.starts_with("error: template.yaml:") && stderr.contains(expected), "{expected}: {stderr}");
        assert!(!site.path().join("made.toml").exists());
    }
}

#[test]
fn a_missing_too_large_or_binary_file_is_reported() {
    let site = Site::new("");
    let import_error = |name: &str| {
        let (code, stdout, stderr) = site.run(&["import", name]);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        stderr
    };
    assert_eq!(import_error("nowhere.yaml"), "error: nowhere.yaml: the template does not exist; check the path\n");
    assert!(import_error(".").starts_with("error: .: cannot read the template: "));
    fs::write(site.path().join("bytes.yaml"), b"a: \xff").unwrap();
    assert_eq!(import_error("bytes.yaml"), "error: bytes.yaml: found bytes that are not UTF-8, expected a template\n");
    // A file of exactly the maximum size is read; a file of one byte more is not.
    let text = fs::read_to_string(template("mock.yaml")).unwrap();
    let padded = |bytes: usize| format!("{text}# {}\n", "x".repeat(bytes - text.len() - 3));
    fs::write(site.path().join("full.yaml"), padded(1024 * 1024)).unwrap();
    assert_eq!(site.run(&["import", "full.yaml"]).0, 0);
    fs::write(site.path().join("large.yaml"), padded(1024 * 1024 + 1)).unwrap();
    assert_eq!(import_error("large.yaml"), "error: large.yaml: found more than 1048576 bytes, expected a template\n");
}

#[test]
fn an_invalid_option_is_a_usage_error() {
    let site = site("mock.yaml");
    for (arguments, expected) in [
        (&["--parameter", "Stage"][..], "expected NAME=VALUE"),
        (&["--endpoint", "localhost"], "expected a URL such as http://127.0.0.1:3002"),
        (&["--force"], "--output <FILE>"),
    ] {
        let (code, _, stderr) = site.run(&[&["import", "mock.yaml"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn with_log_format_json_each_warning_is_one_json_object() {
    let (code, _, stderr) = site("sam.yaml").run(&["import", "sam.yaml", "--log-format", "json"]);
    assert_eq!(code, 0);
    assert_eq!(stderr.lines().count(), 7);
    for line in stderr.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["level"], "WARN");
        assert!(entry["message"].as_str().unwrap().starts_with("sam.yaml:"), "{line}");
    }
}
