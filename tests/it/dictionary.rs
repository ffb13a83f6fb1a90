//! `docs`: the data dictionary.

use crate::program::{Program, simulator};
use crate::report_page::{dom_of, has_chromium};
use crate::rerun::{catalog_files, copy_families};

const EVIL: &str = "</script><script>alert(1)</script> | `b`";

#[tokio::test(flavor = "multi_thread")]
async fn docs_tell_of_every_table_and_are_searched() {
    let program = Program::new();
    for (path, text) in catalog_files() {
        let families = ["assets/", "trips/", "vehicles/"];
        if families.iter().any(|family| path.starts_with(family)) {
            let text = text.replacen("-- distance, metres", &format!("-- distance {EVIL}"), 1);
            program.write(&format!("sql/{path}"), text);
        }
    }
    let path = "sql/trips/fleet_trips.sql";
    let text = std::fs::read_to_string(program.folder().join(path)).unwrap();
    let head = "cluster_by = [\"vehicle_id\"]\nhash = [\"driver_id\"]\n";
    let tests =
        "[[tests]]\nrange = { column = \"distanceMeters\", min = 0 }\nseverity = \"warn\"\n---*/";
    let text = text.replacen("cluster_by = [\"vehicle_id\"]\n", head, 1);
    program.write(path, text.replacen("---*/", tests, 1));

    program.write(
        "sql/trips/long_trips.sql",
        "/*---\ndescription = \"Long trips.\"\npartition_by = \"startTime\"\n---*/\n\
         SELECT vehicle_id, startTime FROM fleet_trips WHERE distanceMeters > 100000",
    );

    let ran = program.succeed(&["docs", "--output", "public/data"]).await;
    assert!(
        ran.stderr.contains("public/data/dictionary.html"),
        "{}",
        ran.stderr
    );
    let page = program.folder().join("public/data/dictionary.html");
    let html = std::fs::read_to_string(&page).unwrap();
    let markdown = program.folder().join("public/data/dictionary.md");
    let markdown = std::fs::read_to_string(markdown).unwrap();
    for told in [
        r#"<article id="fleet_trips""#,
        "<li>partitioned by <code>startTime</code></li>",
        "<li>unique key <code>vehicle_id</code>, <code>startTime</code></li>",
        "<code>&#x2f;v1&#x2f;fleet&#x2f;trips</code>",
        "<code>raw.fleet_trips</code>",
        "(salted SHA-256)",
        "<a href=\"#fleet_trips\"><code>fleet_trips</code></a>",
        "<code>raw.fleet_trips.startCoordinates.latitude</code></td>",
        "<td class=\"wide\"><a href=\"#fleet_trips\"><code>fleet_trips.startTime</code></a></td>",
        "range (distanceMeters)</code> <small>(warns only)",
        "distance &lt;&#x2f;script&gt;&lt;script&gt;alert(1)",
    ] {
        assert!(html.contains(told), "{told}");
    }
    for told in [
        "\n### fleet_trips\n\nTrips, one row per vehicle and start.",
        "\n- `/v1/fleet/trips` → `raw.fleet_trips` (window) → `fleet_trips` (sql/trips/fleet_trips.sql)\n",
        "\n| column | type | description | comes from |\n| --- | --- | --- | --- |\n\
         | `vehicle_id` | STRING | Samsara's vehicle id (key) | `raw.fleet_trips._parent_id` |\n| `driver_id`",
        "its postal address | `raw.fleet_trips.startAddress.address` |\n",
        "| `startTime` | TIMESTAMP |  | `fleet_trips.startTime` |\n",
        "| distance &lt;/script>&lt;script>alert(1)&lt;/script> \\| \\`b\\` | `raw.fleet_trips.distanceMeters` |\n",
        "\n- `fleet_trips` → `long_trips` (sql/trips/long_trips.sql)\n",
        "\n- test: range (distanceMeters) (warns only)\n",
    ] {
        assert!(markdown.contains(told), "{told}\n{markdown}");
    }
    // The same catalog gives the same files.
    program.succeed(&["docs", "--output", "again"]).await;
    let again = std::fs::read_to_string(program.folder().join("again/dictionary.html")).unwrap();
    assert!(again == html);

    if !has_chromium("docs_tell_of_every_table_and_are_searched") {
        return;
    }
    let profile = program.folder().join("profile");
    let dom = dom_of(&page, &profile).await;
    // The page's own script ran, under its own policy, and none from the catalog.
    assert!(
        dom.contains(r#"<p class="filter" id="filter">"#),
        "no search"
    );
    assert_eq!(dom.matches("<script").count(), 1);
    let search = r#"<script>
        const text = document.getElementById("filter-text");
        text.value = "Trips TOLLmeters"; text.dispatchEvent(new Event("input"));
        </script></body>"#;
    let policy = html.find("<meta http-equiv").unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let open = html[..policy].to_string() + &html[end..].replace("</body>", search);
    std::fs::write(&page, open).unwrap();
    let dom = dom_of(&page, &profile).await;
    let hidden = |tag: &str| {
        let (_, rest) = dom.split_once(tag).unwrap();
        rest.split_once('>').unwrap().0.contains("hidden")
    };
    assert!(!hidden(r#"<article id="fleet_trips""#) && hidden(r#"<article id="fleet_vehicles""#));
    let count = dom.split_once(r#"aria-live="polite">"#).unwrap().1;
    assert!(count.starts_with("1 table<"), "{}", &count[..20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn docs_tell_how_fresh_tables_are() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    copy_families(&program, &["assets", "trips", "vehicles"]);
    let file = |folder: &str, name: &str| {
        let path = program.folder().join(folder).join(name);
        std::fs::read_to_string(path).unwrap()
    };
    // Without a warehouse there is nothing to tell, and samples are refused.
    program.succeed(&["docs", "--output", "empty"]).await;
    let refused = program.run(&["docs", "--samples"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--samples reads a local warehouse"),
        "{}",
        refused.stderr
    );
    let run = ["run", "--table", "fleet_trips", "--table", "fleet_vehicles"];
    let days = ["--start-date", "2024-01-01", "--end-date", "2024-01-03"];
    program.succeed(&[&run[..], &days].concat()).await;
    let trips = "SELECT count(*) AS n, CAST(max(CAST(startTime AS DATE)) AS VARCHAR) AS day FROM fleet_trips";
    let trips = &program.rows(trips).await[0];
    let day = trips["day"].as_str().unwrap();
    let vehicle = "SELECT parc_id FROM fleet_vehicles ORDER BY parc_id LIMIT 1";
    let vehicle = program.rows(vehicle).await[0]["parc_id"].clone();
    let vehicle = vehicle.as_str().unwrap();

    program.succeed(&["docs"]).await;
    let html = file("samsara-docs", "dictionary.html");
    let (_, article) = html.split_once(r#"<article id="fleet_trips""#).unwrap();
    let (article, _) = article.split_once("</article>").unwrap();
    for told in [
        format!("<li>{} rows</li>", trips["n"]),
        format!("<li>last day with rows {day}</li>"),
        "<li>last read 20".into(),
    ] {
        assert!(article.contains(&told), "{told} {article}");
    }
    assert!(!html.contains(vehicle) && !html.contains("Samples"));
    let told = format!(
        "- {} rows; last day with rows {day}; last read 20",
        trips["n"]
    );
    let markdown = file("samsara-docs", "dictionary.md");
    assert!(markdown.contains(&told), "{told} {markdown}");

    // Without what is there it is as before.
    let never = ["docs", "--output", "never", "--freshness", "never"];
    program.succeed(&never).await;
    for name in ["dictionary.html", "dictionary.md"] {
        assert_eq!(file("never", name), file("empty", name));
    }

    program
        .succeed(&["docs", "--samples", "--output", "own"])
        .await;
    let html = file("own", "dictionary.html");
    assert!(html.contains("this page is as private as the tables"));
    let markdown = file("own", "dictionary.md");
    let name = "| `parc_id` | STRING |";
    let (_, of_vehicles) = markdown.split_once("\n### fleet_vehicles\n").unwrap();
    let row = of_vehicles
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap();
    let (samples, _) = row.split_once(" | `raw.").unwrap();
    let samples = samples.rsplit_once("| ").unwrap().1.split(", ");
    let all = program.rows("SELECT parc_id FROM fleet_vehicles").await;
    for sample in samples {
        assert!(all.iter().any(|it| it["parc_id"] == sample), "{row}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |folder: &str| {
            let path = program.folder().join(folder).join("dictionary.html");
            std::fs::metadata(path).unwrap().permissions().mode() & 0o077
        };
        assert_eq!(mode("own"), 0);
        assert_ne!(mode("never"), 0);
    }
}
