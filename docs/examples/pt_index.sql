-- Tracers of the PET series, with the range of the injected dose in MBq.
SELECT RadionuclideCodeMeaning, count(*) AS series,
    min(RadionuclideTotalDose) / 1e6 AS least_MBq, max(RadionuclideTotalDose) / 1e6 AS most_MBq
FROM pt_index
GROUP BY RadionuclideCodeMeaning
ORDER BY series DESC, RadionuclideCodeMeaning;
