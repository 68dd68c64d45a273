"""Installs mmkdna."""
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name):
    """The lines of requirements/NAME.txt without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [
        line.strip() for line in lines
        if line.strip() and not line.startswith('#')
    ]


version = {}
exec((ROOT / 'mmkdna' / 'version.py').read_text(), version)

setup(
    name='mmkdna',
    version=version['__version__'],
    description='KernelDNA, dynamic convolution by sharing kernels across '
    'layers, for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The mmkdna authors',
    license='Apache-2.0',
    # What the tests were run with.
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.11'
    ],
    keywords='computer vision, dynamic convolution, OpenMMLab',
    packages=find_packages(include=['mmkdna', 'mmkdna.*']),
    # Where mim and mmengine look; links to the folders of the checkout. What
    # only works in a checkout stays there: lint.sh, install_mmcv.sh and
    # update_zoo.py.
    package_data=dict(mmkdna=[
        'py.typed', '.mim/model-index.yml', '.mim/configs/**/*.md',
        '.mim/configs/**/*.py', '.mim/configs/**/*.yml', '.mim/tools/**/*.py',
        '.mim/tools/dist_*.sh', '.mim/tools/slurm_*.sh', '.mim/weights/*.pth'
    ]),
    exclude_package_data=dict(mmkdna=['.mim/tools/misc/update_zoo.py']),
    python_requires='>=3.8',
    install_requires=requirements('runtime'),
    extras_require={
        name: requirements(name)
        for name in ('deploy', 'det', 'docs', 'lint', 'pretrain', 'rotate',
                     'seg', 'tests')
    })
