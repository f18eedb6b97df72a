//! What the builder writes.

use heirloom_canton::dar::build::{
    self, BuildError, DarBuilder, contract_id, field, gen_map, list, numeric, optional, own, plain,
    text_map,
};
use heirloom_canton::dar::{self, DarError};
use heirloom_canton::types::{
    BuiltinType, DataBody, DataType, Field, Type, TypeId, TypeName, TypeStore as _,
};

fn name(text: &str) -> TypeName {
    text.parse().unwrap()
}

fn builder() -> DarBuilder {
    DarBuilder::new("iou".parse().unwrap(), "1.2.0".parse().unwrap())
}

fn iou_fields() -> Vec<Field> {
    vec![
        field("issuer", plain(BuiltinType::Party)),
        field("owner", plain(BuiltinType::Party)),
        field("amount", numeric(10)),
        field("colour", own(name("Main.Types:Colour"))),
        field("shape", own(name("Main.Types:Shape"))),
        field("notes", list(plain(BuiltinType::Text))),
        field("parent", optional(contract_id(own(name("Main:Iou"))))),
        field("tags", text_map(plain(BuiltinType::Int64))),
        field("shares", gen_map(plain(BuiltinType::Party), plain(BuiltinType::Int64))),
        field("on", plain(BuiltinType::Date)),
        field("at", plain(BuiltinType::Timestamp)),
        field("done", plain(BuiltinType::Bool)),
        field("nothing", plain(BuiltinType::Unit)),
    ]
}

fn iou() -> DarBuilder {
    builder()
        .enumeration(name("Main.Types:Colour"), &["Red", "Green"])
        .variant(
            name("Main.Types:Shape"),
            vec![
                field("Circle", plain(BuiltinType::Int64)),
                field("Point", plain(BuiltinType::Unit)),
            ],
        )
        .template(name("Main:Iou"), iou_fields(), &["issuer"], &["owner"])
        .template(
            name("Main:Offer"),
            vec![field("maker", plain(BuiltinType::Party))],
            &["maker"],
            &[],
        )
}

/// Names the package instead of standing for it.
fn resolved(ty: &Type, own: &TypeId) -> Type {
    let all = |args: &[Type]| args.iter().map(|arg| resolved(arg, own)).collect();
    match ty {
        Type::Con { id, args } if id.package.as_str() == "-own-" => {
            let id = TypeId { package: own.package.clone(), name: id.name.clone() };
            Type::Con { id, args: all(args) }
        }
        Type::Con { id, args } => Type::Con { id: id.clone(), args: all(args) },
        Type::Builtin { builtin, args } => Type::Builtin { builtin: *builtin, args: all(args) },
        other => other.clone(),
    }
}

#[test]
fn what_is_read_is_what_was_built() {
    let built = iou().build().unwrap();
    let dar = dar::read(&built.bytes).unwrap();
    let main = dar.main();
    assert_eq!(main.id(), &built.main);
    assert_eq!(main.name().unwrap().as_str(), "iou");
    assert_eq!(main.version().unwrap().to_string(), "1.2.0");
    assert_eq!(main.lf().to_string(), "2.1");
    assert_eq!(main.upgrades(), None);
    let templates: Vec<_> = main.templates().map(ToString::to_string).collect();
    assert_eq!(templates, ["Main:Iou", "Main:Offer"]);
    assert_eq!(main.data_types().len(), 4);
    let DataBody::Record(fields) = &dar.data_type(&built.main, &name("Main:Iou")).unwrap().body
    else {
        panic!("a record")
    };
    let own = built.type_id(&name("Main:Iou"));
    let expected: Vec<_> = iou_fields()
        .into_iter()
        .map(|field| Field { ty: resolved(&field.ty, &own), name: field.name })
        .collect();
    assert_eq!(fields, &expected);
    let colour = main.data_type(&name("Main.Types:Colour")).unwrap();
    assert_eq!(colour.body, DataBody::Enum(vec!["Red".into(), "Green".into()]));
}

#[test]
fn the_package_by_itself_is_the_one_in_the_file() {
    let built = iou().build().unwrap();
    let dar = dar::read(&built.bytes).unwrap();
    let package = dar::read_package(&built.archive).unwrap();
    assert_eq!(package.id(), &built.main);
    assert_eq!(package.data_types(), dar.main().data_types());
}

#[test]
fn the_same_declarations_are_the_same_bytes() {
    let (first, second) = (iou().build().unwrap(), iou().build().unwrap());
    assert_eq!(first, second);
    // Pinned: packages of demonstrations keep their ids.
    assert_eq!(first.main.as_str(), PINNED);
    let other = DarBuilder::new("iou".parse().unwrap(), "1.2.1".parse().unwrap());
    assert_ne!(other.build().unwrap().main, builder().build().unwrap().main);
}

const PINNED: &str = "af91ffa3a8c56bf5064174be136c3b807c94de2fa4679a9a7918e17483adbb53";

#[test]
fn types_of_other_packages_keep_their_ids() {
    let first = builder()
        .declare(
            name("Lib:Box"),
            DataType {
                params: vec!["a".into()],
                body: DataBody::Record(vec![field("it", Type::Var("a".into()))]),
            },
        )
        .build()
        .unwrap();
    let args = vec![plain(BuiltinType::Text)];
    let ty = Type::Con { id: first.type_id(&name("Lib:Box")), args };
    let second = DarBuilder::new("user".parse().unwrap(), "0.0.1".parse().unwrap())
        .record(name("Main:Holder"), vec![field("box", ty.clone())])
        .build()
        .unwrap();
    let dar = dar::read(&second.bytes).unwrap();
    let holder = dar.main().data_type(&name("Main:Holder")).unwrap();
    assert_eq!(holder.body, DataBody::Record(vec![field("box", ty)]));
}

#[test]
fn each_mistake_of_a_builder_has_its_name() {
    let party = || vec![field("issuer", plain(BuiltinType::Party))];
    let template = || name("Main:T");
    let no_party =
        |field: &str| BuildError::NoPartyField { template: template(), field: field.to_owned() };
    let cases = [
        (
            builder().template(template(), party(), &[], &[]),
            BuildError::NoSignatory { template: template() },
        ),
        (builder().template(template(), party(), &["isuer"], &[]), no_party("isuer")),
        (builder().template(template(), party(), &["issuer"], &["other"]), no_party("other")),
        (
            builder().template(
                template(),
                vec![field("issuer", plain(BuiltinType::Text))],
                &["issuer"],
                &[],
            ),
            no_party("issuer"),
        ),
        (
            builder().record(template(), vec![field("x", own(name("Main:Missing")))]),
            BuildError::Undeclared { name: name("Main:Missing") },
        ),
        (
            builder().record(template(), vec![field("x", build::list(Type::Opaque))]),
            BuildError::Opaque { name: template() },
        ),
        (
            builder().record(template(), party()).record(template(), party()),
            BuildError::Duplicate { name: template() },
        ),
    ];
    for (builder, expected) in cases {
        assert_eq!(builder.build().unwrap_err(), expected);
    }
    let twice = [party(), party()].concat();
    let error = builder().record(template(), twice).build().unwrap_err();
    assert!(matches!(error, BuildError::Refused(DarError::Package { .. })), "{error:?}");
}
