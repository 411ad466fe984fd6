-- One row per DICOM series.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value. It
-- depends neither on the order of rows nor on threads. In nearly all series, the instances agree.

WITH
  -- One row per series and combination of the attributes in which its instances may differ. This reduces
  -- the 58 million rows of dicom_all to few more rows than there are series.
  variants AS (
    SELECT DISTINCT
      SeriesInstanceUID,
      TransferSyntaxUID,
      PhotometricInterpretation,
      PixelRepresentation
    FROM `bigquery-public-data.idc_current.dicom_all`
  ),

  lists AS (
    SELECT
      SeriesInstanceUID,
      STRING_AGG(DISTINCT TransferSyntaxUID, ',' ORDER BY TransferSyntaxUID) AS TransferSyntaxUID,
      STRING_AGG(DISTINCT PhotometricInterpretation, ',' ORDER BY PhotometricInterpretation)
        AS PhotometricInterpretation,
      STRING_AGG(DISTINCT CAST(PixelRepresentation AS STRING), ',' ORDER BY CAST(PixelRepresentation AS STRING))
        AS PixelRepresentation
    FROM variants
    GROUP BY SeriesInstanceUID
  ),

  -- There are few different lists of transfer syntaxes, so the names are looked up per list, not per series.
  transfer_syntaxes AS (
    SELECT
      TransferSyntaxUID,
      STRING_AGG(DISTINCT name, ',' ORDER BY name) AS transfer_syntax_name
    FROM (
      SELECT
        listed.TransferSyntaxUID,
        -- Short forms of the names in PS3.6. Those that occur in IDC come first, the most frequent at the top.
        CASE uid
          WHEN '1.2.840.10008.1.2.1' THEN 'Explicit VR Little Endian'
          WHEN '1.2.840.10008.1.2' THEN 'Implicit VR Little Endian'
          WHEN '1.2.840.10008.1.2.4.50' THEN 'JPEG Baseline'
          WHEN '1.2.840.10008.1.2.4.90' THEN 'JPEG 2000 Lossless'
          WHEN '1.2.840.10008.1.2.4.91' THEN 'JPEG 2000'
          WHEN '1.2.840.10008.1.2.4.70' THEN 'JPEG Lossless'
          WHEN '1.2.840.10008.1.2.2' THEN 'Explicit VR Big Endian'
          WHEN '1.2.840.10008.1.2.4.51' THEN 'JPEG Extended'
          WHEN '1.2.840.10008.1.2.1.99' THEN 'Deflated Explicit VR Little Endian'
          WHEN '1.2.840.10008.1.2.4.80' THEN 'JPEG-LS Lossless'
          WHEN '1.2.840.10008.1.2.1.98' THEN 'Encapsulated Uncompressed Explicit VR Little Endian'
          WHEN '1.2.840.10008.1.2.4.57' THEN 'JPEG Lossless (Process 14)'
          WHEN '1.2.840.10008.1.2.4.81' THEN 'JPEG-LS Near-Lossless'
          WHEN '1.2.840.10008.1.2.4.92' THEN 'JPEG 2000 Part 2 Lossless'
          WHEN '1.2.840.10008.1.2.4.93' THEN 'JPEG 2000 Part 2'
          WHEN '1.2.840.10008.1.2.4.201' THEN 'High-Throughput JPEG 2000 Lossless'
          WHEN '1.2.840.10008.1.2.4.202' THEN 'High-Throughput JPEG 2000 RPCL Lossless'
          WHEN '1.2.840.10008.1.2.4.203' THEN 'High-Throughput JPEG 2000'
          WHEN '1.2.840.10008.1.2.5' THEN 'RLE Lossless'
          WHEN '1.2.840.10008.1.2.4.100' THEN 'MPEG2 Main Profile / Main Level'
          WHEN '1.2.840.10008.1.2.4.101' THEN 'MPEG2 Main Profile / High Level'
          WHEN '1.2.840.10008.1.2.4.102' THEN 'MPEG-4 AVC/H.264 High Profile / Level 4.1'
          WHEN '1.2.840.10008.1.2.4.103' THEN 'MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1'
          WHEN '1.2.840.10008.1.2.4.107' THEN 'HEVC/H.265 Main Profile / Level 5.1'
          WHEN '1.2.840.10008.1.2.4.108' THEN 'HEVC/H.265 Main 10 Profile / Level 5.1'
          ELSE ERROR(CONCAT('idc_index has no name for TransferSyntaxUID ', uid))
        END AS name
      FROM (SELECT DISTINCT TransferSyntaxUID FROM lists) AS listed
      CROSS JOIN UNNEST(SPLIT(listed.TransferSyntaxUID, ',')) AS uid
    )
    GROUP BY TransferSyntaxUID
  ),

  series AS (
    SELECT
      SeriesInstanceUID,
      MIN(collection_id) AS collection_id,
      MIN(PatientID) AS PatientID,
      MIN(StudyInstanceUID) AS StudyInstanceUID,
      MIN(NULLIF(PatientAge, '')) AS PatientAge,
      MIN(PatientSex) AS PatientSex,
      MIN(StudyDate) AS StudyDate,
      MIN(StudyDescription) AS StudyDescription,
      MIN(SeriesDate) AS SeriesDate,
      MIN(NULLIF(SeriesDescription, '')) AS SeriesDescription,
      MIN(SeriesNumber) AS SeriesNumber,
      MIN(analysis_result_id) AS analysis_result_id,
      MIN(Source_DOI) AS source_DOI,
      MIN(Modality) AS Modality,
      MIN(SOPClassUID) AS SOPClassUID,
      MIN(Manufacturer) AS Manufacturer,
      MIN(ManufacturerModelName) AS ManufacturerModelName,
      MIN(license_short_name) AS license_short_name,
      MIN(aws_bucket) AS aws_bucket,
      MIN(crdc_series_uuid) AS crdc_series_uuid,
      MIN(series_aws_url) AS series_aws_url,
      COUNT(*) AS instanceCount,
      SUM(instance_size) AS bytes
    FROM `bigquery-public-data.idc_current.dicom_all`
    GROUP BY SeriesInstanceUID
  ),

  -- dicom_metadata_curated and auxiliary_metadata are reduced to one row per series before the join. A join
  -- by instance would take three times the memory.
  curated AS (
    SELECT
      SeriesInstanceUID,
      MIN(BodyPartExamined) AS BodyPartExamined
    FROM `bigquery-public-data.idc_current.dicom_metadata_curated`
    GROUP BY SeriesInstanceUID
  ),

  history AS (
    SELECT
      SeriesInstanceUID,
      MIN(series_init_idc_version) AS series_init_idc_version,
      MAX(series_revised_idc_version) AS series_revised_idc_version
    FROM `bigquery-public-data.idc_current.auxiliary_metadata`
    GROUP BY SeriesInstanceUID
  )

SELECT
  series.collection_id,
  series.analysis_result_id,
  series.PatientID,
  series.SeriesInstanceUID,
  series.StudyInstanceUID,
  series.source_DOI,
  series.PatientAge,
  series.PatientSex,
  CAST(series.StudyDate AS STRING) AS StudyDate,
  series.StudyDescription,
  curated.BodyPartExamined,
  series.Modality,
  series.SOPClassUID,
  -- Names in PS3.6. The SOP classes that occur in IDC come first, the most frequent at the top, then all other
  -- storage classes.
  CASE series.SOPClassUID
    WHEN '1.2.840.10008.5.1.4.1.1.2' THEN 'CT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.22' THEN 'Enhanced SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66.4' THEN 'Segmentation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.4' THEN 'MR Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.6' THEN 'VL Whole Slide Microscopy Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.13.1.3' THEN 'Breast Tomosynthesis Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.3' THEN 'RT Structure Set Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.1' THEN 'Computed Radiography Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.7' THEN 'Secondary Capture Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.1.2.1' THEN 'Digital Mammography X-Ray Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.91.1' THEN 'Microscopy Bulk Simple Annotations Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.128' THEN 'Positron Emission Tomography Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.34' THEN 'Comprehensive 3D SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.1.2' THEN 'Digital Mammography X-Ray Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.1.1' THEN 'Digital X-Ray Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.104.3' THEN 'Encapsulated STL Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.33' THEN 'Comprehensive SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.3.1' THEN 'Ultrasound Multi-frame Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66' THEN 'Raw Data Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.1' THEN 'Grayscale Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.30' THEN 'Parametric Map Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.2' THEN 'RT Dose Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.5' THEN 'RT Plan Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.7.2' THEN 'Multi-frame Grayscale Byte Secondary Capture Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.71' THEN 'Acquisition Context SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.13.1.5' THEN 'Breast Projection X-Ray Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.13.1.4' THEN 'Breast Projection X-Ray Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.66.7' THEN 'Label Map Segmentation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.8' THEN 'Advanced Blending Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66.1' THEN 'Spatial Registration Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.20' THEN 'Nuclear Medicine Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.6.1' THEN 'Ultrasound Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.59' THEN 'Key Object Selection Document Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.12.1' THEN 'X-Ray Angiographic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.67' THEN 'Real World Value Mapping Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.12.2' THEN 'X-Ray Radiofluoroscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.1.1.1' THEN 'Digital X-Ray Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.88.67' THEN 'X-Ray Radiation Dose SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.1.3' THEN 'Digital Intra-Oral X-Ray Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.1.3.1' THEN 'Digital Intra-Oral X-Ray Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.2.1' THEN 'Enhanced CT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.2.2' THEN 'Legacy Converted Enhanced CT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.4.1' THEN 'Enhanced MR Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.4.2' THEN 'MR Spectroscopy Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.4.3' THEN 'Enhanced MR Color Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.4.4' THEN 'Legacy Converted Enhanced MR Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.6.2' THEN 'Enhanced US Volume Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.6.3' THEN 'Photoacoustic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.7.1' THEN 'Multi-frame Single Bit Secondary Capture Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.7.3' THEN 'Multi-frame Grayscale Word Secondary Capture Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.7.4' THEN 'Multi-frame True Color Secondary Capture Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.1.1' THEN '12-lead ECG Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.1.2' THEN 'General ECG Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.1.3' THEN 'Ambulatory ECG Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.1.4' THEN 'General 32-bit ECG Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.2.1' THEN 'Hemodynamic Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.3.1' THEN 'Cardiac Electrophysiology Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.4.1' THEN 'Basic Voice Audio Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.4.2' THEN 'General Audio Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.5.1' THEN 'Arterial Pulse Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.6.1' THEN 'Respiratory Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.6.2' THEN 'Multi-channel Respiratory Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.7.1' THEN 'Routine Scalp Electroencephalogram Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.7.2' THEN 'Electromyogram Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.7.3' THEN 'Electrooculogram Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.7.4' THEN 'Sleep Electroencephalogram Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.9.8.1' THEN 'Body Position Waveform Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.2' THEN 'Color Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.3' THEN 'Pseudo-Color Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.4' THEN 'Blending Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.5' THEN 'XA/XRF Grayscale Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.6' THEN 'Grayscale Planar MPR Volumetric Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.7' THEN 'Compositing Planar MPR Volumetric Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.9' THEN 'Volume Rendering Volumetric Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.10' THEN 'Segmented Volume Rendering Volumetric Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.11' THEN 'Multiple Volume Rendering Volumetric Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.11.12' THEN 'Variable Modality LUT Softcopy Presentation State Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.12.1.1' THEN 'Enhanced XA Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.12.2.1' THEN 'Enhanced XRF Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.13.1.1' THEN 'X-Ray 3D Angiographic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.13.1.2' THEN 'X-Ray 3D Craniofacial Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.14.1' THEN 'Intravascular Optical Coherence Tomography Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.14.2' THEN 'Intravascular Optical Coherence Tomography Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.66.2' THEN 'Spatial Fiducials Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66.3' THEN 'Deformable Spatial Registration Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66.5' THEN 'Surface Segmentation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.66.6' THEN 'Tractography Results Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.68.1' THEN 'Surface Scan Mesh Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.68.2' THEN 'Surface Scan Point Cloud Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.1' THEN 'VL Endoscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.1.1' THEN 'Video Endoscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.2' THEN 'VL Microscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.2.1' THEN 'Video Microscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.3' THEN 'VL Slide-Coordinates Microscopic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.4' THEN 'VL Photographic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.4.1' THEN 'Video Photographic Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.1' THEN 'Ophthalmic Photography 8 Bit Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.2' THEN 'Ophthalmic Photography 16 Bit Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.3' THEN 'Stereometric Relationship Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.4' THEN 'Ophthalmic Tomography Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.5' THEN 'Wide Field Ophthalmic Photography Stereographic Projection Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.6' THEN 'Wide Field Ophthalmic Photography 3D Coordinates Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.7' THEN 'Ophthalmic Optical Coherence Tomography En Face Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.5.8' THEN 'Ophthalmic Optical Coherence Tomography B-scan Volume Analysis Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.7' THEN 'Dermoscopic Photography Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.8' THEN 'Confocal Microscopy Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.77.1.9' THEN 'Confocal Microscopy Tiled Pyramidal Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.1' THEN 'Lensometry Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.2' THEN 'Autorefraction Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.3' THEN 'Keratometry Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.4' THEN 'Subjective Refraction Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.5' THEN 'Visual Acuity Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.6' THEN 'Spectacle Prescription Report Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.7' THEN 'Ophthalmic Axial Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.78.8' THEN 'Intraocular Lens Calculations Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.79.1' THEN 'Macular Grid Thickness and Volume Report Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.80.1' THEN 'Ophthalmic Visual Field Static Perimetry Measurements Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.81.1' THEN 'Ophthalmic Thickness Map Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.82.1' THEN 'Corneal Topography Map Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.11' THEN 'Basic Text SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.35' THEN 'Extensible SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.40' THEN 'Procedure Log Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.50' THEN 'Mammography CAD SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.65' THEN 'Chest CAD SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.68' THEN 'Radiopharmaceutical Radiation Dose SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.69' THEN 'Colon CAD SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.70' THEN 'Implantation Plan SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.72' THEN 'Simplified Adult Echo SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.73' THEN 'Patient Radiation Dose SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.74' THEN 'Planned Imaging Agent Administration SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.75' THEN 'Performed Imaging Agent Administration SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.76' THEN 'Enhanced X-Ray Radiation Dose SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.88.77' THEN 'Waveform Annotation SR Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.90.1' THEN 'Content Assessment Results Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.104.1' THEN 'Encapsulated PDF Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.104.2' THEN 'Encapsulated CDA Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.104.4' THEN 'Encapsulated OBJ Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.104.5' THEN 'Encapsulated MTL Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.128.1' THEN 'Legacy Converted Enhanced PET Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.130' THEN 'Enhanced PET Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.131' THEN 'Basic Structured Display Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.200.1' THEN 'CT Defined Procedure Protocol Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.200.2' THEN 'CT Performed Procedure Protocol Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.200.3' THEN 'Protocol Approval Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.200.7' THEN 'XA Defined Procedure Protocol Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.200.8' THEN 'XA Performed Procedure Protocol Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.201.1' THEN 'Inventory Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.1' THEN 'RT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.4' THEN 'RT Beams Treatment Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.6' THEN 'RT Brachy Treatment Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.7' THEN 'RT Treatment Summary Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.8' THEN 'RT Ion Plan Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.9' THEN 'RT Ion Beams Treatment Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.10' THEN 'RT Physician Intent Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.11' THEN 'RT Segment Annotation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.12' THEN 'RT Radiation Set Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.13' THEN 'C-Arm Photon-Electron Radiation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.14' THEN 'Tomotherapeutic Radiation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.15' THEN 'Robotic-Arm Radiation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.16' THEN 'RT Radiation Record Set Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.17' THEN 'RT Radiation Salvage Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.18' THEN 'Tomotherapeutic Radiation Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.19' THEN 'C-Arm Photon-Electron Radiation Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.20' THEN 'Robotic Radiation Record Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.21' THEN 'RT Radiation Set Delivery Instruction Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.22' THEN 'RT Treatment Preparation Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.23' THEN 'Enhanced RT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.24' THEN 'Enhanced Continuous RT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.481.25' THEN 'RT Patient Position Acquisition Instruction Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.501.1' THEN 'DICOS CT Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.501.2.1' THEN 'DICOS Digital X-Ray Image Storage - For Presentation'
    WHEN '1.2.840.10008.5.1.4.1.1.501.2.2' THEN 'DICOS Digital X-Ray Image Storage - For Processing'
    WHEN '1.2.840.10008.5.1.4.1.1.501.3' THEN 'DICOS Threat Detection Report Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.501.4' THEN 'DICOS 2D AIT Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.501.5' THEN 'DICOS 3D AIT Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.501.6' THEN 'DICOS Quadrupole Resonance (QR) Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.601.1' THEN 'Eddy Current Image Storage'
    WHEN '1.2.840.10008.5.1.4.1.1.601.2' THEN 'Eddy Current Multi-frame Image Storage'
    ELSE IF(
      series.SOPClassUID IS NULL,
      -- NULL of type STRING
      series.SOPClassUID,
      ERROR(CONCAT('idc_index has no name for SOPClassUID ', series.SOPClassUID))
    )
  END AS sop_class_name,
  lists.TransferSyntaxUID,
  transfer_syntaxes.transfer_syntax_name,
  lists.PhotometricInterpretation,
  lists.PixelRepresentation,
  series.Manufacturer,
  series.ManufacturerModelName,
  CAST(series.SeriesDate AS STRING) AS SeriesDate,
  series.SeriesDescription,
  series.SeriesNumber,
  series.instanceCount,
  series.license_short_name,
  history.series_init_idc_version,
  history.series_revised_idc_version,
  series.aws_bucket,
  series.crdc_series_uuid,
  CONCAT(series.series_aws_url, '*') AS series_aws_url,
  series.bytes / 1000000 AS series_size_MB
FROM series
LEFT JOIN lists ON lists.SeriesInstanceUID = series.SeriesInstanceUID
LEFT JOIN transfer_syntaxes ON transfer_syntaxes.TransferSyntaxUID = lists.TransferSyntaxUID
LEFT JOIN curated ON curated.SeriesInstanceUID = series.SeriesInstanceUID
LEFT JOIN history ON history.SeriesInstanceUID = series.SeriesInstanceUID
ORDER BY collection_id, PatientID, StudyInstanceUID, SeriesInstanceUID
