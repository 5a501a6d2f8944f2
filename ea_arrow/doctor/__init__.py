"""Finding and explaining mistakes in predictions, each by a trial."""

from ea_arrow.doctor.examination import CHECKS as CHECKS
from ea_arrow.doctor.examination import Examination as Examination
from ea_arrow.doctor.examination import examination as examination
from ea_arrow.doctor.examination import examine as examine
from ea_arrow.doctor.findings import Finding as Finding
