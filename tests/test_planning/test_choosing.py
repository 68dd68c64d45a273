"""Which links come first."""
import itertools
import math
import random
from dataclasses import replace

import pytest

from mmkdna.planning import (Candidate, Damage, LinkDamage, find_curve,
                             find_plan, most_saved)


def link(child, parent, error, saved=10):
    return LinkDamage(child, parent, saved, 'part', 0., Damage(error),
                      Damage(1.))


def made(step):
    return {one.child: one.parent for one in step.links}


def test_least_damage_per_parameter_comes_first():
    curve = find_curve([
        link('a', 'b', 3., saved=10),
        link('b', 'a', 4., saved=10),
        link('c', 'd', 5., saved=20)
    ])
    assert [made(step) for step in curve] == [dict(c='d'), dict(c='d', a='b')]
    assert [step.damage for step in curve] == [5., 8.]
    assert [step.saved for step in curve] == [20, 30]


def test_children_of_a_parent_that_becomes_a_child_move_along():
    curve = find_curve([
        link('a', 'b', 1.),
        link('b', 'c', 2.),
        link('a', 'c', 1.5),
        link('c', 'a', 9.)
    ])
    assert [made(step) for step in curve] == [dict(a='b'), dict(a='c', b='c')]
    assert curve[-1].damage == 3.5


def test_a_parent_stays_one_if_its_child_could_not_move():
    curve = find_curve([link('a', 'b', 1.), link('b', 'c', 2.)])
    assert [made(step) for step in curve] == [dict(a='b')]


@pytest.mark.parametrize('error', [math.nan, math.inf])
def test_a_link_whose_damage_is_no_number_is_not_made(error):
    measured = [
        link('a', 'b', error),
        link('b', 'a', 3.),
        link('c', 'd', 1.),
        link('d', 'c', error)
    ]
    curve = find_curve(measured)
    assert [made(step) for step in curve] == [dict(c='d'), dict(c='d', b='a')]
    assert find_plan(measured, 20)[-1].damage == 4.
    assert find_plan(measured[:1], 10) is None
    for broken in (dict(part_error=error), dict(noise=Damage(error))):
        assert not find_curve([replace(link('a', 'b', 1.), **broken)])


def all_links(number):
    return [(a, b) for a in range(number) for b in range(number) if a != b]


@pytest.mark.parametrize('seed', range(5))
def test_rules_hold_and_all_that_can_be_saved_is(seed):
    rng = random.Random(seed)
    measured = [
        link(f'{group}{a}', f'{group}{b}', rng.random(), saved)
        for group, saved in (('x', 10), ('y', 3)) for a, b in all_links(5)
    ]
    curve = find_curve(measured)
    assert len(curve) == 8 and curve[-1].saved == 4 * 13
    for number, step in enumerate(curve, 1):
        assert len(made(step)) == len(step.links) == number
        assert not set(made(step)) & set(made(step).values())


@pytest.mark.parametrize('seed', range(5))
def test_a_plan_is_never_worse_than_the_curve(seed):
    rng = random.Random(seed)
    measured = [
        link(f'{group}{a}', f'{group}{b}', rng.random(), saved)
        for group, saved in (('x', 10), ('y', 3)) for a, b in all_links(3)
    ]
    best = min(
        sum(one.output.error for one in chosen) for number in range(1, 5)
        for chosen in itertools.combinations(measured, number)
        if sum(one.saved
               for one in chosen) >= 16 and len({one.child
                                                 for one in chosen}) == number
        and not {one.child
                 for one in chosen} & {one.parent
                                       for one in chosen})
    plan = find_plan(measured, 16)[-1]
    first = next(step for step in find_curve(measured) if step.saved >= 16)
    assert best <= plan.damage <= first.damage and plan.saved >= 16


def test_the_last_link_need_not_save_as_much_as_the_next():
    measured = [
        link('a', 'b', 1., 100),
        link('c', 'd', 4., 150),
        link('e', 'f', 2., 20)
    ]
    assert [made(step) for step in find_plan(measured, 110)
            ] == [dict(a='b'), dict(a='b', e='f')]
    assert find_plan(measured, 271) is None
    assert find_plan(measured, 270)[-1].saved == 270


def test_most_that_can_be_saved():
    candidates = [
        Candidate('unit', str(a), str(b), 7) for a, b in all_links(4)
    ]
    assert most_saved(candidates) == 21
    assert most_saved([]) == 0
