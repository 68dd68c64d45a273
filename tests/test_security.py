"""Every promise of SECURITY.md has tests, and they are there."""
import re

from tests.runs import ROOT

FILES = 'test_checkpoints/test_files.py'
FUZZ = 'test_checkpoints/test_fuzz.py'
NAMES = 'test_checkpoints/test_names.py'
SAFE = 'test_launch/test_safe_loading.py'
TRAIN = 'test_tools/test_train.py'
# How a promise starts, and the tests that fail if it is broken.
PROMISES = {
    'No tool runs anything that is in a checkpoint':
    [(TRAIN, 'test_refuses_a_checkpoint'), (SAFE, 'test_nothing_is_run'),
     (SAFE, 'test_what_mmengine_allows_is_not_allowed'),
     (SAFE, 'test_the_config_in_a_checkpoint')],
    'That holds for a file': [(SAFE, 'test_nothing_is_run'),
                              (SAFE, 'test_from_an_object_store'),
                              (SAFE, 'test_what_last_checkpoint_names'),
                              (NAMES, 'test_wrong_file_never_runs')],
    '`mmkdna.checkpoints.files.load_file` and':
    [(FILES, 'test_pickle_that_would_run_code'),
     (FILES, 'test_training_state_opens_no_door'),
     (FILES, 'test_no_setting_of_torch_makes_a_difference')],
    'What is read is tensors': [(FILES, 'test_training_state_is_read_exactly'),
                                (FILES, 'test_pickle_that_would_run_code'),
                                (FILES, 'test_what_is_no_checkpoint'),
                                (FUZZ, 'test_programs')],
    'A file that is cut': [(FILES, 'test_truncated_file'),
                           (FILES,
                            'test_every_part_has_its_checksum_looked_at'),
                           (FUZZ, 'test_damaged_files')],
    'A small file does not take for ever':
    [(FILES, 'test_what_would_take_for_ever'),
     (FILES, 'test_tensors_stay_within_their_memory'),
     (FILES, 'test_memory_is_as_large_as_it_says')],
    'Weights that are NaN or infinite':
    [(FILES, 'test_weights_that_are_no_numbers'),
     ('test_tools/test_not_finite.py', 'test_of_a_trained_model'),
     ('test_tools/test_not_finite.py', 'test_of_a_plain_model'),
     ('test_tools/test_not_finite.py', 'test_of_the_authors'),
     ('test_tools/test_not_finite.py', 'test_what_comes_of_a_conversion')],
    '`tools/test.py` tests no weights': [
        ('test_launch/test_form_check.py', 'test_each_for_each'),
        ('test_launch/test_form_check.py', 'test_one_weight_is_wrong'),
        (FUZZ, 'test_state_dicts')
    ],
    'What is refused leaves no file behind': [
        (TRAIN, 'test_refuses_a_checkpoint'),
        ('test_tools/test_not_finite.py', 'test_of_a_trained_model')
    ],
    '`mmkdna://NAME` loads no file': [(NAMES, 'test_wrong_file_in_mirror'),
                                      (NAMES, 'test_truncated_download'),
                                      (NAMES, 'test_paths_stay_inside'),
                                      (FUZZ, 'test_metafiles')],
    'A metafile runs nothing': [(NAMES, 'test_metafiles_run_nothing')],
    'Damaged annotations and pictures': [('test_launch/test_data_check.py',
                                          'test_names_what_is_no_json'),
                                         (FUZZ, 'test_pictures'),
                                         (FUZZ, 'test_annotations')],
}


def test_every_promise_has_tests():
    page = (ROOT / 'SECURITY.md').read_text()
    promised = page.partition('## What is promised')[2].partition(
        '## What is not promised')[0]
    promises = [
        ' '.join(promise.split())
        for promise in re.findall(r'^- (.*?)(?=^- |^$)', promised, re.MULTILINE
                                  | re.DOTALL)
    ]
    assert len(promises) == len(PROMISES)
    for start, promise in zip(PROMISES, promises):
        assert promise.startswith(start)
    for tests in PROMISES.values():
        for file, test in tests:
            assert f'def {test}(' in (ROOT / 'tests' / file).read_text(), test
