"""What became of a network that was reconstructed."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class ChildReport:
    """What became of what is around a child.

    Errors are of the output of the child's block, or of the layer that it is
    in; otherwise as in :class:`PartReport`. Only what the part gives is fitted
    to, so that one may be larger afterwards.

    Attributes:
        name (str): Name of the child.
        before (float): Error before the part was fitted.
        after (float): Error afterwards.
    """
    name: str
    before: float
    after: float


@dataclass(frozen=True)
class PartReport:
    """What became of a part.

    Errors are of the part's output: the mean squared difference to that of the
    plain network, over its variance, on pictures that are not fitted to but
    choose the best of what fitting tried.

    Attributes:
        name (str): Its name.
        children (list[ChildReport]): What became of the children in it.
        before (float): Error before it was fitted; what runs before the part
            is fitted by then.
        after (float): Error afterwards; where fitting made it no smaller, the
            part is as it was before.
    """
    name: str
    children: list[ChildReport]
    before: float
    after: float


@dataclass(frozen=True)
class ReconstructionReport:
    """What became of a network, on ``model.reconstruction_report``.

    The last three are of pictures that neither fitted nor chose anything.

    Attributes:
        parts (list[PartReport]): In the order in which they run.
        left_out (list[str]): Names of children that no part has, whose kernels
            are derived and nothing else.
        error_before (float): Error of the model's outputs with all children
            sharing and nothing fitted: the mean squared difference to the
            plain network's, over their variance.
        error_after (float): The same at the end.
        agreement (float | None): How often the largest channel is that of the
            plain network, for a model that gives one tensor: a classifier or a
            segmentor. None for others.
    """
    parts: list[PartReport]
    left_out: list[str]
    error_before: float
    error_after: float
    agreement: Optional[float]

    def __str__(self) -> str:
        lines = [
            'KernelDNA: reconstructed; error of the output of each part, and '
            'of the block around each child, before and after:'
        ]
        names = [part.name for part in self.parts]
        names += [child.name for part in self.parts for child in part.children]
        width = 2 + max(map(len, names), default=0)
        for part in self.parts:
            kept = '' if part.after < part.before else ', left as it was'
            lines.append(f'  {part.name:{width}} {part.before:.3f} '
                         f'{part.after:.3f}{kept}')
            lines += [
                f'    {child.name:{width - 2}} {child.before:.3f} '
                f'{child.after:.3f}' for child in part.children
            ]
        if self.left_out:
            lines.append(
                'These children share, but could not be fitted, since no '
                'module around them maps one tensor to one: '
                f'{", ".join(self.left_out)}')
        said = ('' if self.agreement is None else
                f'; {100 * self.agreement:.1f} % of the answers are those of '
                'the plain network')
        lines.append('On pictures that were not fitted to, the error of the '
                     f'outputs is {self.error_after:.3f}, '
                     f'{self.error_before:.3f} before{said}')
        return '\n'.join(lines)
