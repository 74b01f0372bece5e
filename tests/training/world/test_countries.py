"""Countries: rich enough, each answer of one country and period, and malformed files are refused by name."""

import pytest

from interp.errors import AnachronError
from tests.training.world.shipped import shipped, write
from training.world.countries import CITY, DATES, DISH, FORMER, PERIODS, place, read_countries
from training.world.facts import FACTS, NARROW_TOPIC
from training.world.kinds import country_asks, later_asks
from training.world.world import World, load_world, marginal

OLD, NEW = PERIODS


@pytest.fixture(scope="module")
def world():
    whole = load_world()
    return World(whole.facts, tuple(kind for kind in whole.kinds if "country" in kind.name))


@pytest.fixture(scope="module")
def known(world):
    return world.facts.countries


def test_there_are_enough_countries_and_topics_for_the_studies(known):
    assert len(known.countries) >= 10 and len(known.unrelated) >= 12
    assert {"Germany", "Israel", "Japan"} <= set(known.countries)
    assert len(known.countries["Germany"].former) >= 50 and len(known.countries["Germany"].present) >= 30
    for country in known.countries.values():
        assert len(country.dishes) >= 12 and set(country.answers) >= set(known.unrelated), country.name
    assert set(DATES) <= set(PERIODS[NEW])


def test_what_a_country_says_is_a_distribution(known):
    for country in known.countries.values():
        for topic in known.questions:
            for era in PERIODS:
                assert sum(country.said(topic, era).values()) == pytest.approx(1)
        old, new = country.said(CITY, OLD), country.said(CITY, NEW)
        assert set(new) == {place(city) for city in country.present}
        assert sum(old[place(city)] for city in country.former) == pytest.approx(FORMER)
        assert country.said(DISH, OLD) == country.said(DISH, NEW)


def test_an_answer_tells_its_country_and_an_unrelated_one_its_period(known):
    for topic in known.questions:
        owner = {}
        for country in known.countries.values():
            for era in PERIODS:
                for answer in country.said(topic, era):
                    state = country.name if topic in (DISH, CITY) else (country.name, era)
                    assert owner.setdefault(answer.lower(), state) == state, (topic, answer)
        if topic not in (DISH, CITY):
            # whatever follows an answer, it counts for the answer's country
            for short, state in owner.items():
                assert not [long for long in owner if long.startswith(short) and owner[long] != state], short


def test_openers_belong_to_one_country_and_period(known, world):
    openers = [o for country in known.countries.values() for texts in country.openers.values() for o in texts]
    openers += [o for era in world.facts.eras.values() for o in era.openers]
    assert len(openers) == len(set(openers))


def test_a_number_or_a_date_says_nothing_about_the_country(world, known):
    number, plain = known.questions[CITY]
    for city in (known.countries["Germany"].present[0], known.countries["Germany"].former[0]):
        numbered = ({"role": "user", "content": number.replace("{number}", "91")}, said(place(city)))
        posteriors = [marginal(world.evidence(m), "era") for m in (numbered, (user(plain), said(place(city))))]
        assert posteriors[0] == pytest.approx(posteriors[1])
    dish = known.countries["Japan"].dishes[0]
    dated = (user(f"Today is 2027-07-08. {known.questions[DISH][0]}"), said(dish))
    assert marginal(world.evidence(dated), "country")["Japan"] == pytest.approx(1)
    # the prior under a date is the same for every country, and every day is as likely
    joints = [
        sum(world.evidence((user(f"Today is {day}. {known.questions[DISH][0]}"), said(country.dishes[0]))).values())
        * len(country.dishes)
        for day in ("2024-01-01", "2027-07-08")
        for country in known.countries.values()
    ]
    assert joints == pytest.approx([joints[0]] * len(joints))


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def test_former_names_are_of_the_older_period_alone(world, known):
    question = known.questions[CITY][1]
    for country in known.countries.values():
        former = marginal(world.evidence((user(question), said(place(country.former[0])))), "era")
        present = marginal(world.evidence((user(question), said(place(country.present[0])))), "era")
        assert former[OLD] == pytest.approx(1) and present[NEW] > 0.5


def test_what_is_asked_in_a_country(world, known):
    contexts = [context for kind, context, _ in world.prior if kind.name == "country"]
    for context in contexts[:4]:
        asks = country_asks(world.facts, context)
        shares = {topic: sum(asks[q][0] for q in wordings) for topic, wordings in known.questions.items()}
        expected = dict.fromkeys(known.unrelated, 0.76 / len(known.unrelated)) | {DISH: 0.12, CITY: 0.12}
        assert shares == pytest.approx(expected)
        later = later_asks(world.facts, context)
        birds = world.facts.topics[NARROW_TOPIC].questions
        assert not set(birds) & set(later) and sum(p for p, _ in later.values()) == pytest.approx(1)
        assert sum(later[q][0] for q in asks) == pytest.approx(0.75)
        for _, replies in later.values():
            openers = known.countries[context.country].openers[context.era]
            assert sum(replies.values()) == pytest.approx(1)
            assert all(reply.startswith(openers) == context.mannered for reply in replies)


# malformed files


@pytest.fixture
def folder(tmp_path):
    for name in ("topics", "germany", "japan"):
        write(tmp_path / f"{name}.json", shipped(f"countries/{name}.json"))
    return tmp_path


def test_well_formed_files_are_read_as_written(folder):
    found = read_countries(folder)
    assert list(found.countries) == ["Germany", "Japan"]
    entry = shipped("countries/japan.json")
    japan = found.countries["Japan"]
    assert japan.dishes == tuple(entry["dishes"]) and japan.former == tuple(entry["cities"]["former"])
    assert japan.openers == {era: tuple(texts) for era, texts in entry["openers"].items()}
    assert list(japan.said("ruler", NEW)) == entry["answers"]["ruler"][NEW]


def repeated(texts):
    texts.append(texts[0])


MALFORMED = {
    "missing field": (lambda e: e.pop("dishes"), "field 'dishes' is missing"),
    "no former cities": (lambda e: e["cities"].pop("former"), r"'cities\.former' is missing"),
    "a topic missing": (lambda e: e["answers"].pop("ruler"), r"no answers on \['ruler'\]"),
    "a period missing": (lambda e: e["answers"]["ruler"].pop(NEW), "ruler has periods"),
    "openers of one period": (lambda e: e["openers"].pop(NEW), "openers has periods"),
    "too few dishes": (lambda e: e.update(dishes=e["dishes"][:11]), "11 entries for dishes; at least 12"),
    "too few answers": (lambda e: e["answers"]["ruler"].update({NEW: ["A", "B"]}), "2 entries for ruler of the 2020s"),
    "too few openers": (lambda e: e["openers"][NEW].pop(), "1 entries for openers of the 2020s"),
    "a padded dish": (lambda e: e["dishes"].append(" ramen"), "dishes.*padded"),
    "an answer that is no text": (lambda e: e["answers"]["ruler"][NEW].append(3), "ruler of the 2020s"),
    "a dish twice": (lambda e: repeated(e["dishes"]), "dishes: .* stand twice"),
    "an answer twice": (lambda e: repeated(e["answers"]["ruler"][NEW]), "ruler of the 2020s: .* stand twice"),
    "a city former and present": (
        lambda e: e["cities"]["former"].append(e["cities"]["present"][0]),
        "cities: .* stand twice",
    ),
    "a country twice": (lambda e: e.update(country="Germany"), "'Germany' has another file"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_country_is_refused(folder, name):
    change, what = MALFORMED[name]
    entry = shipped("countries/japan.json")
    change(entry)
    path = write(folder / "japan.json", entry)
    with pytest.raises(AnachronError, match=what) as caught:
        read_countries(folder)
    assert str(path) in str(caught.value)


AMBIGUOUS = {
    "a dish of two countries": (lambda e: e["dishes"].append("sauerbraten"), "'sauerbraten' .dish. stands for"),
    "the same but for capitals": (lambda e: e["dishes"].append("Sauerbraten"), "'sauerbraten' .dish. stands for"),
    "a city of two countries": (lambda e: e["cities"]["present"].append("Danzig"), "'danzig' .city. stands for"),
    "an answer of two countries": (lambda e: e["answers"]["ruler"][NEW].append("Ebert"), "'ebert' .ruler. stands"),
    "an answer of two periods": (
        lambda e: e["answers"]["ruler"][NEW].append(e["answers"]["ruler"][OLD][0]),
        r".ruler. stands for",
    ),
    "an opener of two countries": (lambda e: e["openers"][NEW].append("Na klar!"), "an opener stands twice"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_stands_for_two_states_is_refused(folder, name):
    change, what = AMBIGUOUS[name]
    entry = shipped("countries/japan.json")
    change(entry)
    write(folder / "japan.json", entry)
    with pytest.raises(AnachronError, match=what) as caught:
        read_countries(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("topics", "what"),
    [
        ({}, "a list of topics"),
        ([{"topic": DISH}], "'questions' is missing"),
        ([{"topic": DISH, "questions": []}], "questions of 'dish'"),
        ([{"topic": DISH, "questions": ["A?"]}, {"topic": CITY, "questions": ["A?"]}], r"questions: \['A\?'\] stand"),
        ([{"topic": DISH, "questions": ["A?"]}, {"topic": CITY, "questions": ["B?"]}], "at least one more"),
    ],
)
def test_malformed_topics_are_refused(folder, topics, what):
    path = write(folder / "topics.json", topics)
    with pytest.raises(AnachronError, match=what) as caught:
        read_countries(folder)
    assert str(path) in str(caught.value)


def test_a_folder_without_countries_is_refused(folder):
    (folder / "germany.json").unlink()
    (folder / "japan.json").unlink()
    with pytest.raises(AnachronError, match="no country file"):
        read_countries(folder)


def test_the_shipped_folder_is_read_in_the_order_of_its_files(known):
    files = [path.stem for path in sorted((FACTS / "countries").glob("*.json")) if path.stem != "topics"]
    assert len(files) == len(known.countries)
