//! Packages that other compilers wrote.

use heirloom_canton::dar::package::PackageError;
use heirloom_canton::dar::types::Packages;
use heirloom_canton::dar::{self, Dar, DarError};
use heirloom_canton::types::{
    BuiltinType, DataBody, Field, PackageId, Type, TypeName, TypeStore as _,
};

use crate::vector;

fn read(name: &str) -> Option<Dar> {
    Some(dar::read(&vector(&format!("dars/{name}.dar"))?).unwrap())
}

fn name(text: &str) -> TypeName {
    text.parse().unwrap()
}

fn named(field: &Field) -> (&str, &Type) {
    (&field.name, &field.ty)
}

#[test]
fn every_readable_file_is_read() {
    // The main package's id, its Daml-LF, its name and version, and how many packages there are.
    let expected = [
        (
            "canton-builtin-admin-workflow-ping",
            "de2cc2f90eb523414ff54e899951dadd8789a4c07e0f71f6d6c9eaf57d412a54",
            "2.2",
            "canton-builtin-admin-workflow-ping 3.4.0",
            30,
        ),
        (
            "dummy-1.15",
            "968b64d6f60d3643a9554d5ea10bae48b0eac89be3598c369426d382b9b9cc2b",
            "1.15",
            "incompatibleUpgrade 1.0.0",
            1,
        ),
        (
            "splice-amulet-0.1.17",
            "6c5802f86709a0ad4784af81f0bab40f3070b2f58128d8843da1e1784c147802",
            "2.1",
            "splice-amulet 0.1.17",
            40,
        ),
        (
            "splice-api-token-metadata-v1-1.0.0",
            "4ded6b668cb3b64f7a88a30874cd41c75829f5e064b3fbbadf41ec7e8363354f",
            "2.1",
            "splice-api-token-metadata-v1 1.0.0",
            30,
        ),
    ];
    for (file, id, lf, called, packages) in expected {
        let Some(dar) = read(file) else { return };
        let main = dar.main();
        assert_eq!(main.id().as_str(), id, "{file}");
        assert_eq!(main.lf().to_string(), lf, "{file}");
        let (name, version) = (main.name().unwrap(), main.version().unwrap());
        assert_eq!(format!("{name} {version}"), called, "{file}");
        assert_eq!(dar.packages().len(), packages, "{file}");
    }
}

#[test]
fn package_ids_are_the_ones_in_the_names_of_files() {
    // The reader computes ids and never looks at names; the compiler puts ids into names.
    for file in ["canton-builtin-admin-workflow-ping", "splice-amulet-0.1.17"] {
        let Some(bytes) = vector(&format!("dars/{file}.dar")) else { return };
        let dar = dar::read(&bytes).unwrap();
        let names = String::from_utf8_lossy(&bytes).into_owned();
        for package in dar.packages() {
            assert!(names.contains(&format!("-{}.dalf", package.id())), "{}", package.id());
        }
    }
}

#[test]
fn test_packages_of_three_versions_are_read() {
    for (file, lf) in [("test-1.15", "1.15"), ("test-2.1", "2.1"), ("test-2.2", "2.2")] {
        let Some(dar) = read(file) else { return };
        assert_eq!(dar.main().lf().to_string(), lf);
        assert!(dar.main().templates().len() > 1, "{file}");
        assert!(dar.main().data_types().len() > 5, "{file}");
        for template in dar.main().templates() {
            let body = &dar.main().data_type(template).unwrap().body;
            assert!(matches!(body, DataBody::Record(_)), "{file}: {template}");
        }
    }
}

#[test]
fn a_package_that_is_ill_typed_is_refused_by_the_name_of_the_value() {
    let Some(bytes) = vector("dars/illformed.dar") else { return };
    let DarError::Package { source, .. } = dar::read(&bytes).unwrap_err() else {
        panic!("the package should be refused")
    };
    let name = name("Mod:x");
    assert_eq!(source, PackageError::IllTyped { name, found: "()", declared: BuiltinType::Bool });
}

#[test]
fn types_of_the_ping_workflow_are_as_its_source_says() {
    let Some(dar) = read("canton-builtin-admin-workflow-ping") else { return };
    let ping = dar.main().data_type(&name("Canton.Internal.Ping:Ping")).unwrap();
    let DataBody::Record(fields) = &ping.body else { panic!("a record") };
    let text = Type::Builtin { builtin: BuiltinType::Text, args: Vec::new() };
    let party = Type::Builtin { builtin: BuiltinType::Party, args: Vec::new() };
    let fields: Vec<_> = fields.iter().map(named).collect();
    assert_eq!(fields, [("id", &text), ("initiator", &party), ("responder", &party)]);
    assert!(dar.main().has_template(&name("Canton.Internal.Ping:Ping")));
    assert!(dar.main().key_type(&name("Canton.Internal.Ping:Ping")).is_none());
}

#[test]
fn applied_types_of_other_packages_are_gathered() {
    let Some(dar) = read("splice-amulet-0.1.17") else { return };
    let rules = dar.main().data_type(&name("Splice.AmuletRules:AmuletRules")).unwrap();
    let DataBody::Record(fields) = &rules.body else { panic!("a record") };
    let labels: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(labels, ["dso", "configSchedule", "isDevNet", "contractStateSchemaVersion"]);
    let Type::Con { id, args } = &fields[1].ty else { panic!("a declared type") };
    assert_eq!(id.name, name("Splice.Schedule:Schedule"));
    assert_eq!(args.len(), 2);
    let schedule = dar.data_type(&id.package, &id.name).unwrap();
    assert_eq!(schedule.params.len(), 2);
}

#[test]
fn sets_and_tuples_of_the_standard_library_have_their_parameters() {
    let Some(dar) = read("splice-amulet-0.1.17") else { return };
    let set = "c3bb0c5d04799b3f11bad7c3c102963e115cf53da3e4afcbcfd9f06ebd82b4ff";
    let set: PackageId = set.parse().unwrap();
    let set = dar.data_type(&set, &name("DA.Set.Types:Set")).unwrap();
    assert_eq!(set.params, ["k"]);
    let DataBody::Record(fields) = &set.body else { panic!("a record") };
    let args = vec![
        Type::Var("k".to_owned()),
        Type::Builtin { builtin: BuiltinType::Unit, args: Vec::new() },
    ];
    let map = Type::Builtin { builtin: BuiltinType::GenMap, args };
    assert_eq!(fields.iter().map(named).collect::<Vec<_>>(), [("map", &map)]);
}

#[test]
fn a_store_has_each_package_once() {
    let (Some(amulet), Some(metadata)) =
        (read("splice-amulet-0.1.17"), read("splice-api-token-metadata-v1-1.0.0"))
    else {
        return;
    };
    let mut packages = Packages::new();
    assert_eq!(packages.add(&amulet), 40);
    // Every package of the smaller file is one of the larger file's dependencies.
    assert_eq!(packages.add(&metadata), 0);
    assert_eq!(packages.add(&amulet), 0);
    assert_eq!(packages.iter().len(), 40);
    let main = metadata.main().id();
    let found = packages.get(main).unwrap();
    assert_eq!(found.data_types(), metadata.main().data_types());
}
